"""DAPS: its Langevin steps against exact densities, and the whole sampler against the posterior of a Gaussian prior."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import jaxdiff as jd
from jaxdiff import grids
from jaxdiff.posterior import daps
from jaxdiff.posterior.daps import langevin

KEY = jax.random.key(0)
PROCESS = jd.processes.edm(0.02, 20.0)
TIMES = grids.karras(PROCESS, 12, sigma_min=0.1)
run = jax.jit(daps, static_argnames=("operator", "ode_steps", "langevin_steps"))
MATRIX, NOISE, OBSERVED = np.array([[0.6, 0.8]]), 0.3, np.array([[1.2]])
COUNT, MEAN, STD = 20_000, 0.4, 0.7


def observe(x):
    """A direction of two coordinates."""
    return x @ jnp.asarray(MATRIX.T)


def _moments(samples):
    samples = np.asarray(samples, np.float64)
    return samples.mean(axis=0), np.cov(samples.T)


def _posterior(variance, centre):
    """The exact posterior of a prior N(centre, variance I)."""
    covariance = np.linalg.inv(np.eye(2) / variance + MATRIX.T @ MATRIX / NOISE**2)
    return covariance @ (centre / variance + MATRIX.T @ OBSERVED[0] / NOISE**2), covariance


@pytest.mark.parametrize("length", [0.3, 1.2])
def test_langevin_steps_keep_a_curved_density_exactly(length):
    """`exp(-U)` with `U = (x^2 - 1)^2/s`, which no normal distribution resembles, by its distribution function."""

    def energy(x):
        value = jax.vmap(jax.value_and_grad(lambda x: jnp.sum((x**2 - 1) ** 2) / 0.5))
        return value(x)

    got, *_ = jax.jit(lambda key, x: langevin(key, energy, x, length * 0.1, 400))(KEY, jnp.zeros((5000, 1)))
    grid = np.linspace(-3, 3, 4001)
    density = np.exp(-((grid**2 - 1) ** 2) / 0.5)
    cdf = np.cumsum(density) / density.sum()
    assert stats.kstest(np.asarray(got)[:, 0], lambda x: np.interp(x, grid, cdf)).pvalue > 1e-3


def test_the_posterior_of_a_gaussian_prior_is_exact():
    """Mean and covariance, with the posterior mean as the guess and what the prior knows as its width."""
    denoiser = jd.denoisers.gaussian(PROCESS, MEAN, STD)
    x = jd.prior_sample(jax.random.key(1), PROCESS, (COUNT, 2))
    got = _moments(run(KEY, denoiser, x, TIMES, observe, OBSERVED, NOISE, ode_steps=1, langevin_steps=20, data_std=STD))
    wanted = _posterior(STD**2, MEAN * np.ones(2))
    np.testing.assert_allclose(got[0], wanted[0], atol=5 * STD / np.sqrt(COUNT))
    np.testing.assert_allclose(got[1], wanted[1], atol=5 * STD**2 * np.sqrt(2 / COUNT))


def test_one_level_has_the_moments_of_the_formula():
    """With the published width `r = sigma/alpha`, from one level straight to the data: the product of two normals."""
    process = jd.processes.vp_linear()
    t = 0.3
    x = jnp.full((COUNT, 2), 0.9)
    denoiser = jd.denoisers.gaussian(process, MEAN, STD)
    alpha, sigma = process.alpha(t), process.sigma(t)
    guess = MEAN + alpha * STD**2 / (alpha**2 * STD**2 + sigma**2) * (0.9 - alpha * MEAN)
    options = {"ode_steps": 1, "langevin_steps": 20}
    got = _moments(run(KEY, denoiser, x, np.array([t, 0.0]), observe, OBSERVED, NOISE, **options))
    wanted = _posterior(sigma**2 / alpha**2, guess * np.ones(2))
    scale = np.sqrt(np.diag(wanted[1]).max())
    np.testing.assert_allclose(got[0], wanted[0], atol=5 * scale / np.sqrt(COUNT))
    np.testing.assert_allclose(got[1], wanted[1], atol=5 * scale**2 * np.sqrt(2 / COUNT))


def test_the_guess_follows_the_ode():
    """Without an answer of the likelihood, many Euler steps end where the exact ODE of a Gaussian ends."""
    denoiser, start = jd.denoisers.gaussian(PROCESS, MEAN, STD), 3.0
    times = np.array([start, 0.05, 0.0])
    x = jnp.full((COUNT, 2), 2.0)
    got = run(KEY, denoiser, x, times[[0, 2]], observe, OBSERVED, 1e6, ode_steps=200, langevin_steps=0)
    # One level, whose lowest level is itself: all inner steps but the last are of length 0.
    np.testing.assert_allclose(
        got.mean(), MEAN + STD**2 / (STD**2 + start**2) * (2 - MEAN), atol=5 * start / np.sqrt(COUNT)
    )
    table = run(KEY, denoiser, x, times, observe, OBSERVED, 1e6, ode_steps=200, langevin_steps=0)
    ode = MEAN + STD / np.sqrt(STD**2 + start**2) * (2 - MEAN)
    after = MEAN + STD**2 / (STD**2 + 0.05**2) * (ode - MEAN)
    np.testing.assert_allclose(table.mean(), after, atol=5 * start / np.sqrt(COUNT))


def test_each_example_follows_its_key():
    keys, turned = jax.random.split(KEY, 4), np.array([2, 0, 3, 1])
    denoiser = jd.denoisers.gaussian(PROCESS, {"a": 1.0, "b": -1.0}, 0.5)
    x = jd.prior_sample(keys, PROCESS, {"a": jnp.zeros((4, 3)), "b": jnp.zeros((4, 2, 2))})
    first = lambda x: x["a"]  # noqa: E731
    stds = np.array([0.1, 0.2, 0.3, 0.4])
    one, other = (
        run(k, denoiser, x, TIMES, first, jnp.full((1, 3), 0.3), s, langevin_steps=5)
        for k, x, s in ((keys, x, stds), (keys[turned], jax.tree.map(lambda leaf: leaf[turned], x), stds[turned]))
    )
    for name in x:
        np.testing.assert_allclose(one[name][turned], other[name], rtol=1e-3, atol=1e-4)


X = jnp.ones((4, 2))
GAUSSIAN = jd.denoisers.gaussian(PROCESS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"std": 0.0}, r"std = 0\.0"),
        ({"ode_steps": 0}, "ode_steps = 0"),
        ({"langevin_steps": -1}, "langevin_steps = -1"),
        ({"step_size": 0.0}, r"step_size = 0\.0"),
        ({"times": [1.0, 0.0], "denoiser": jd.denoisers.gaussian(jd.processes.flow())}, "without signal"),
        ({"observation": jnp.ones((3, 1))}, r"observation.shape = \(3, 1\)"),
    ],
)
def test_wrong_arguments(options, message):
    options = {"times": TIMES, "denoiser": GAUSSIAN, "std": NOISE, "observation": OBSERVED} | options
    with pytest.raises(ValueError, match=message):
        daps(KEY, x=X, operator=observe, **options)
