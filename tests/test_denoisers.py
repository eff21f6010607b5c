"""Closed-form denoisers compared with brute-force integration, and networks of every kind with a plain function."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import MEANS, PROCESSES, STDS, WEIGHTS, inner_times, mixture
from flax import nnx
from scipy import stats

import jaxdiff as jd
from jaxdiff import denoisers, parametrizations
from jaxdiff.denoisers import score

ESTIMATE = jax.jit(lambda denoiser, x, t: denoiser(x, t))


def _posterior_mean_by_integration(process, t, x, density):
    """`E[x0 | x_t = x]` in one dimension, by Bayes' rule on a fine grid."""
    grid = np.linspace(-8, 8, 40_001)
    alpha, sigma = process.alpha(t), process.sigma(t)
    log_weight = np.log(density(grid) + 1e-300) + stats.norm.logpdf(x, alpha * grid, sigma)
    weight = np.exp(log_weight - log_weight.max())
    return np.sum(weight * grid) / np.sum(weight)


@pytest.mark.parametrize("name", ["vp_linear", "edm", "flow"])
def test_mixture_is_bayes_rule(name, x64):
    process = PROCESSES[name]
    weights, means, stds = np.array([0.3, 0.7]), np.array([[-1.0], [2.0]]), np.array([0.3, 0.8])
    exact = denoisers.gaussian_mixture(process, weights, means, stds)

    def density(grid):
        return sum(w * stats.norm.pdf(grid, m[0], s) for w, m, s in zip(weights, means, stds, strict=True))

    for t in inner_times(process, 4, margin=0.05):
        x = (process.alpha(t) + process.sigma(t)) * np.array([-1.5, 0.2, 2.0])
        got = ESTIMATE(exact, x[:, None], t)
        want = np.array([_posterior_mean_by_integration(process, t, one, density) for one in x])
        np.testing.assert_allclose(got.x0[:, 0], want, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(
            got.eps[:, 0], (x - process.alpha(t) * want) / process.sigma(t), rtol=1e-4, atol=1e-5
        )


def _log_density(process, t, x, weights, means, covariances):
    """`log p_t` of a mixture, from SciPy's multivariate normal."""
    alpha, sigma = process.alpha(t), process.sigma(t)
    parts = [
        np.log(w) + stats.multivariate_normal.logpdf(x, alpha * m, alpha**2 * c + sigma**2 * np.eye(len(m)))
        for w, m, c in zip(weights, means, covariances, strict=True)
    ]
    return np.logaddexp.reduce(parts)


def test_score_is_the_gradient_of_the_log_density(process, x64):
    """By finite differences of SciPy's density, for isotropic and full covariances and all processes."""
    rng = np.random.default_rng(0)
    a = rng.normal(size=(3, 2, 2)) * 0.5
    full = a @ np.swapaxes(a, 1, 2) + 0.05 * np.eye(2)
    isotropic = STDS[:, None, None] ** 2 * np.eye(2)
    for covariances, given in ((isotropic, STDS), (full, full)):
        exact = denoisers.gaussian_mixture(process, WEIGHTS, MEANS, given)
        for t in inner_times(process, 3, margin=0.1):
            scale = process.alpha(t) + process.sigma(t)
            x = scale * rng.normal(size=2)
            h = 1e-5 * scale
            numeric = [
                (_log_density(process, t, x + h * e, WEIGHTS, MEANS, covariances)
                 - _log_density(process, t, x - h * e, WEIGHTS, MEANS, covariances)) / (2 * h)
                for e in np.eye(2)
            ]  # fmt: skip
            np.testing.assert_allclose(score(exact, jnp.asarray(x)[None], t)[0], numeric, rtol=2e-5, atol=1e-6 / scale)


def test_every_denoiser_is_consistent(process, x64):
    """`x = alpha x0 + sigma eps`, an example alone is the same as in a batch, and a mixture of equals is a Gaussian."""
    times = inner_times(process)
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(9, 2)) * (process.alpha(times) + process.sigma(times))[:, None])
    data = rng.normal(size=(20, 2))
    for denoiser in (
        denoisers.gaussian(process, 0.3, 0.7), mixture(process), denoisers.empirical(process, data),
        denoisers.gaussian_mixture(process, WEIGHTS, MEANS, np.array([np.diag([0.1, 0.4])] * 3)),
    ):  # fmt: skip
        together = denoiser(x, times)
        np.testing.assert_allclose(jd.corrupt(process, *together, times), x, rtol=1e-10)
        alone = denoiser(x[2:3], times[2])
        np.testing.assert_allclose(alone.x0[0], together.x0[2], rtol=1e-10, atol=1e-12)
    one = denoisers.gaussian(process, 0.4, 0.6)(x, times)
    same = denoisers.gaussian_mixture(process, WEIGHTS, np.full((3, 2), 0.4), np.full(3, 0.6))(x, times)
    np.testing.assert_allclose(one.x0, same.x0, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(one.eps, same.eps, rtol=1e-12, atol=1e-12)


def test_empirical_is_a_mixture_without_width(x64):
    process = PROCESSES["edm"]
    data = np.random.default_rng(0).normal(size=(7, 4, 2))
    x = jnp.asarray(np.random.default_rng(1).normal(size=(3, 4, 2)))
    for t in (0.05, 0.5, 5.0):
        got = ESTIMATE(denoisers.empirical(process, data), x, t)
        want = ESTIMATE(denoisers.gaussian_mixture(process, np.ones(7), data, np.zeros(7)), x, t)
        np.testing.assert_allclose(got.x0, want.x0, rtol=1e-9, atol=1e-12)


def test_empirical_finds_its_data_at_low_noise_in_float32():
    """At sigma = 0.002 the expanded square of a long vector would lose the answer in rounding."""
    process = PROCESSES["edm"]
    data = np.random.default_rng(0).normal(size=(5, 3072)).astype(np.float32)
    x = data[2:3] + 0.002 * np.random.default_rng(1).normal(size=(1, 3072)).astype(np.float32)
    np.testing.assert_allclose(denoisers.empirical(process, data)(jnp.asarray(x), 0.002).x0[0], data[2], atol=1e-6)


def test_pytree_data(x64):
    process = PROCESSES["vp_linear"]
    x = {"a": jnp.ones((2, 3)), "b": jnp.ones((2, 4, 4))}
    mean, std = {"a": 0.5, "b": -1.0}, {"a": 1.0, "b": 0.1}
    got = denoisers.gaussian(process, mean, std)(x, 0.4)
    for k in x:
        want = denoisers.gaussian(process, mean[k], std[k])(x[k], 0.4)
        np.testing.assert_allclose(got.x0[k], want.x0)


class Linen(nn.Module):
    @nn.compact
    def __call__(self, x, t):
        return nn.Dense(2)(jnp.concatenate([x, t[:, None] / 1000], axis=1))


def test_linen_nnx_and_a_function_are_the_same_denoiser():
    process, x, t = PROCESSES["vp_linear"], jnp.ones((3, 2)), jnp.array([0.1, 0.5, 0.9])
    linen = Linen()
    params = linen.init(jax.random.key(0), x, t)
    kernel, bias = params["params"]["Dense_0"]["kernel"], params["params"]["Dense_0"]["bias"]

    class Nnx(nnx.Module):
        def __init__(self):
            self.dense = nnx.Linear(3, 2, rngs=nnx.Rngs(0))

        def __call__(self, x, t):
            return self.dense(jnp.concatenate([x, t[:, None] / 1000], axis=1))

    module = Nnx()
    module.dense.kernel[...] = kernel
    module.dense.bias[...] = bias
    graph, state = nnx.split(module)
    v = parametrizations.v()
    made = [
        denoisers.from_network(process, v, linen.apply, params),
        denoisers.from_network(process, v, lambda state, x, t: nnx.merge(graph, state)(x, t), state),
        denoisers.from_network(
            process, v, lambda p, x, t: jnp.concatenate([x, t[:, None] / 1000], 1) @ p[0] + p[1], (kernel, bias)
        ),
    ]
    for denoiser in made[1:]:
        for got, want in zip(denoiser(x, t), made[0](x, t), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
        jax.tree.map(lambda leaf: leaf, denoiser)


def test_network_is_given_the_scaled_input_the_time_input_and_the_condition():
    process = PROCESSES["edm"]
    seen = {}

    def network(params, x, time, cond):
        seen.update(x=x, time=time, cond=cond)
        return x.astype(jnp.bfloat16)

    denoiser = denoisers.from_network(process, parametrizations.edm(0.5), network, None, cond={"y": jnp.arange(4)})
    got = denoiser(jnp.full((4, 2), 3.0), 2.0)
    np.testing.assert_allclose(seen["x"], 3 / np.sqrt(4.25), rtol=1e-6)
    np.testing.assert_allclose(seen["time"], np.full(4, np.log(2) / 4), rtol=1e-6)
    assert seen["cond"]["y"].shape == (4,)
    assert got.x0.dtype == jnp.float32


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda p: denoisers.from_network(p, parametrizations.v(), None, None), TypeError, "apply = None"),
        (lambda p: denoisers.from_network(p, parametrizations.v(), lambda _, x, t: x[:, :1], None)(np.ones((2, 3)), 0.5),
         ValueError, r"network's output.*\(2, 1\).*\(2, 3\)"),
        (lambda p: denoisers.gaussian(p, 0.0, -1.0), ValueError, "std = -1"),
        (lambda p: denoisers.gaussian_mixture(p, [1, 0], np.zeros((2, 2)), [1, 1]), ValueError, "weights"),
        (lambda p: denoisers.gaussian_mixture(p, [1, 1], np.zeros((3, 2)), [1, 1]), ValueError, r"means.*\(3, 2\)"),
        (lambda p: denoisers.gaussian_mixture(p, [1, 1], np.zeros((2, 2)), [1, 1, 1]), ValueError, "stds"),
        (lambda p: denoisers.gaussian_mixture(p, [1], np.zeros((1, 2)), [[[1, 2], [2, 1]]]), ValueError, "smallest eigenvalue of stds = -1"),
        (lambda p: denoisers.empirical(p, np.zeros((3, 2), int)), TypeError, "data.dtype = int"),
        (lambda p: denoisers.empirical(p, np.zeros((3, 2)))(jnp.zeros((1, 4)), 0.5), ValueError, r"x\.shape = \(1, 4\)"),
        (lambda p: denoisers.gaussian_mixture(p, [1, 1], np.zeros((2, 2)), [1, 1])(jnp.zeros((1, 4)), 0.5), ValueError,
         r"x\.shape = \(1, 4\).*as means"),
        (lambda p: denoisers.check_denoiser(3), TypeError, "denoiser = 3; allowed are callables with a process"),
    ],
)  # fmt: skip
def test_wrong_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make(PROCESSES["vp_linear"])


def test_a_scalar_mean_and_width_serve_a_pytree():
    process = PROCESSES["edm"]
    x = {"a": jnp.ones((2, 3)), "b": jnp.ones((2, 1))}
    got = denoisers.gaussian(process, {"a": 0.0, "b": 1.0})(x, 1.0)
    np.testing.assert_allclose(got.x0["a"], 0.5)
    np.testing.assert_allclose(got.x0["b"], 1.0)


def test_a_function_of_the_posterior_mean_is_the_exact_denoiser(process):
    """`E[x0 | x]` of Gaussian data, as a plain function of x and t; at the clean end too, where sigma may be 0."""
    mean, std = 0.5, 0.3

    def posterior_mean(x, t):
        alpha, sigma = process.alpha(t), process.sigma(t)
        return mean + alpha * std**2 / (alpha**2 * std**2 + sigma**2) * (x - alpha * mean)

    made, exact = denoisers.from_function(process, posterior_mean), denoisers.gaussian(process, mean, std)
    x = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    for t in (process.t_min, *inner_times(process, 3), process.t_max):
        got, want = ESTIMATE(made, x, t), ESTIMATE(exact, x, t)
        np.testing.assert_allclose(got.x0, want.x0, rtol=1e-5, atol=1e-5)
        # The difference `x - alpha x0` has the rounding of x, which is divided by sigma.
        sigma = process.sigma(np.float64(t))
        np.testing.assert_allclose(got.eps, want.eps, rtol=1e-4, atol=1e-6 / max(sigma, 1e-6) if sigma else 1e-6)


def test_a_function_of_pytrees_and_its_errors():
    process = PROCESSES["edm"]
    x = {"a": jnp.ones((3, 2)), "b": jnp.ones((3, 1, 4))}
    made = denoisers.from_function(process, lambda x, t: jax.tree.map(lambda leaf: leaf / 2, x))
    np.testing.assert_allclose(made(x, 4.0).eps["b"], (1 - 0.5) / 4)
    np.testing.assert_allclose(made(x, jnp.array([1.0, 2.0, 4.0])).eps["a"][:, 0], [0.5, 0.25, 0.125])
    with pytest.raises(TypeError, match=r"function = 3; allowed are functions \(x, t\) -> x0"):
        denoisers.from_function(process, 3)
    with pytest.raises(TypeError, match="process = 'edm'"):
        denoisers.from_function("edm", lambda x, t: x)
    with pytest.raises(ValueError, match=r"shape of the function's output = \(3,\); allowed are \(3, 2\)"):
        denoisers.from_function(process, lambda x, t: x[:, 0])(x["a"], 1.0)


def test_at_no_noise_exact_denoisers_give_the_point_and_no_noise():
    """The limit of `sigma -> 0`: the mean of a point mass, the nearest of some points, and a finite noise."""
    process = jd.processes.flow()
    points = jnp.array([[0.0, 0.0], [1.0, 0.0], [0.0, 3.0]])
    x = jnp.array([[0.9, 0.2], [0.0, 3.0]])
    near = points[jnp.array([1, 2])]
    empirical = jd.denoisers.empirical(process, points)
    mixture = jd.denoisers.gaussian_mixture(process, np.ones(3), np.asarray(points), np.zeros(3))
    for denoiser, want in ((empirical, near), (mixture, near), (jd.denoisers.gaussian(process, 0.5, 0.0), 0 * x + 0.5)):
        found = denoiser(x, 0.0)
        np.testing.assert_allclose(found.x0, want, atol=1e-6)
        np.testing.assert_array_equal(found.eps, 0)
        # The limit is continuous.
        np.testing.assert_allclose(denoiser(x, 1e-3).x0, want, atol=1e-5)
        assert all(np.isfinite(leaf).all() for leaf in jax.jacrev(denoiser)(x, 0.0))
