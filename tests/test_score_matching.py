"""Implicit and sliced score matching: the minimum is at the true score, and is minus half the Fisher information.

A mean over random draws must lie within 4 standard errors. The seeds are fixed.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import MEANS, PROCESSES, STDS, WEIGHTS, mixture
from scipy import stats

from jaxdiff.denoisers import score
from jaxdiff.objectives import implicit, sliced

KEY = jax.random.key(0)
MEAN, STD = 0.3, 0.7  # of the Gaussian data
LOSSES = {
    "implicit": implicit,
    "implicit, gaussian": lambda s, k, x: implicit(s, k, x, probe="gaussian"),
    "sliced": sliced,
}


def _assert_mean(values, want):
    assert abs(np.mean(values) - want) < 4 * np.std(values) / np.sqrt(len(values))


@pytest.mark.parametrize("name", LOSSES)
def test_score_matching_of_a_gaussian(name, x64):
    """At the true score the loss is -E|grad log p|^2/2 = -d/(2 s^2), for events of any shape."""
    x = MEAN + STD * jax.random.normal(jax.random.key(1), (20_000, 2, 3))
    losses = LOSSES[name](lambda x: (MEAN - x) / STD**2, KEY, x)
    assert losses.shape == (20_000,)
    _assert_mean(losses, -6 / (2 * STD**2))


@pytest.mark.parametrize("name", LOSSES)
def test_score_matching_of_a_mixture(name, x64):
    """c times the true score has the loss (c^2/2 - c) E|grad log p|^2, with the expectation by quadrature."""
    process, t, n = PROCESSES["edm"], 0.3, 20_000
    grid = np.stack(np.meshgrid(*[np.linspace(-5, 5, 401)] * 2, indexing="ij"), -1)
    variances = STDS**2 + t**2
    parts = [
        w * np.prod(stats.norm.pdf(grid, m, np.sqrt(v)), -1) for w, m, v in zip(WEIGHTS, MEANS, variances, strict=True)
    ]
    slope = sum(d[..., None] * (m - grid) / v for d, m, v in zip(parts, MEANS, variances, strict=True))
    information = np.sum(np.sum(slope**2, -1) / sum(parts)) * (10 / 400) ** 2

    rng = np.random.default_rng(0)
    which = rng.choice(3, size=n, p=WEIGHTS)
    x = jnp.asarray(MEANS[which] + np.sqrt(variances[which])[:, None] * rng.normal(size=(n, 2)))
    losses = {c: LOSSES[name](lambda x, c=c: c * score(mixture(process), x, t), KEY, x) for c in (0.7, 1.0, 1.3)}
    for c, values in losses.items():
        _assert_mean(values, (c**2 / 2 - c) * information)
    for c in (0.7, 1.3):  # pairwise, so that chance largely cancels
        difference = losses[c] - losses[1.0]
        _assert_mean(difference, 0.3**2 / 2 * information)
        assert np.mean(difference) > 4 * np.std(difference) / np.sqrt(n)


def test_hutchinson_with_signs_is_exact_for_a_diagonal_jacobian(x64):
    """v v = 1 in every coordinate, for all signs, so that there is no variance."""
    a = jnp.array([0.5, 2.0, -1.0])
    x = jax.random.normal(jax.random.key(1), (7, 3))
    for seed in range(3):
        losses = implicit(lambda x: 1.0 - a * x, jax.random.key(seed), x)
        np.testing.assert_allclose(losses, -a.sum() + jnp.sum((1.0 - a * x) ** 2, axis=1) / 2, rtol=1e-12)


def test_variance_of_the_probes(x64):
    """For symmetric A, v.Av has variance 2 sum_{i != j} A_ij^2 with signs, and 2 sum A_ij^2 with normal directions."""
    a = np.array([[1.0, 0.5, -0.3], [0.5, -2.0, 0.8], [-0.3, 0.8, 0.4]])
    n = 40_000
    for probe, want in (("rademacher", 2 * np.sum((a - np.diag(np.diag(a))) ** 2)), ("gaussian", 2 * np.sum(a**2))):
        traces = np.asarray(implicit(lambda x: x @ a, KEY, jnp.zeros((n, 3)), probe=probe))
        _assert_mean(traces, np.trace(a))
        squares = (traces - np.trace(a)) ** 2
        _assert_mean(squares, want)


def test_a_linear_score_learns_mean_and_variance(x64):
    """With an exact trace, the empirical loss of -a (x - b) is least at the mean and variance of the sample."""
    x = MEAN + STD * jax.random.normal(jax.random.key(1), (500, 1))

    @jax.jit
    @jax.value_and_grad
    def loss(params):
        return jnp.mean(implicit(lambda x: -params[0] * (x - params[1]), KEY, x))

    best = jnp.array([1 / jnp.var(x), jnp.mean(x)])
    value, gradient = loss(best)
    np.testing.assert_allclose(gradient, np.zeros(2), atol=1e-12)
    np.testing.assert_allclose(value, -best[0] / 2, rtol=1e-12)
    for step in (*jnp.eye(2), *-jnp.eye(2)):
        assert loss(best + 0.1 * step)[0] > value


def test_score_matching_of_pytrees_half_precision_and_per_example_keys():
    x = {"a": jnp.ones((4, 3), jnp.bfloat16), "b": 2 * jnp.ones((4, 2, 2), jnp.bfloat16)}
    losses = implicit(lambda x: jax.tree.map(lambda leaf: -leaf, x), KEY, x)
    np.testing.assert_allclose(losses, np.full(4, -7 + (3 * 1 + 4 * 4) / 2), rtol=1e-6)
    keys = jax.random.split(KEY, 4)
    y = jax.random.normal(KEY, (4, 3))
    for function in (implicit, sliced):
        together = function(lambda x: jnp.sin(x) * x[:, ::-1], keys, y)
        moved = function(lambda x: jnp.sin(x) * x[:, ::-1], keys[::-1], y[::-1])
        np.testing.assert_allclose(moved[::-1], together, rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda x: implicit(lambda x: x, KEY, x, probe="uniform"), ValueError, "probe = 'uniform'"),
        (lambda x: sliced(lambda x: x[:, :1], KEY, x), ValueError, r"score.*\(2, 1\).*\(2, 3\)"),
        (lambda x: implicit(lambda x: x, jax.random.split(KEY, 3), x), ValueError, r"key\.shape = \(3,\)"),
        (lambda x: sliced(lambda x: x, 3, x), TypeError, "key = 3"),
    ],
)  # fmt: skip
def test_wrong_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make(jnp.ones((2, 3)))
