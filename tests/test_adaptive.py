"""Sampling in adaptive steps: accuracy, the number of evaluations, both singular ends, transformations."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import MEANS, PROCESSES, STDS, WEIGHTS, mixture
from scipy import integrate

import jaxdiff as jd
from jaxdiff import probability_flow
from jaxdiff.sampling.adaptive import adaptive

P = jd.processes
sample = jax.jit(adaptive, static_argnames="max_steps")
CALLS = []


@jd.trees.register
@dataclasses.dataclass(frozen=True)
class Counted:
    """Another denoiser that tells the host of every evaluation."""

    inner: jd.denoisers.Denoiser

    @property
    def process(self):
        return self.inner.process

    def __call__(self, x, t):
        jax.debug.callback(lambda t: CALLS.append(float(t)), t)
        return self.inner(x, t)


def _ratio(process, t):
    alpha, sigma = process.alpha(np.float64(t)), process.sigma(np.float64(t))
    return sigma / alpha


def _exact_flow(x, start, stop):
    """The ODE of the shared mixture from sigma/alpha = start to stop in `x/alpha` (x is [n, 2]), by scipy's DOP853."""

    def rate(rho, y):
        # d(x/alpha)/d(rho) = eps = -rho grad log p of the mixture N(m, s^2 + rho^2).
        y = y.reshape(-1, 2)
        v = STDS**2 + rho**2
        log_r = np.log(WEIGHTS) - np.log(v) - np.sum((y[:, None] - MEANS) ** 2, -1) / (2 * v)
        r = np.exp(log_r - log_r.max(1, keepdims=True))
        r /= r.sum(1, keepdims=True)
        return (rho * np.einsum("nk,nkd->nd", r / v, y[:, None] - MEANS)).ravel()

    solution = integrate.solve_ivp(rate, (start, stop), x.ravel(), method="DOP853", rtol=1e-11, atol=1e-12)
    return solution.y[:, -1].reshape(-1, 2)


@pytest.mark.parametrize("name", ["vp_linear", "vp_discrete", "ve"])
def test_accuracy_follows_the_tolerance(name, x64):
    """Against scipy. In these variables all processes are one problem, with one bound on the number of evaluations."""
    process = PROCESSES[name]
    start, stop = _ratio(process, process.t_max), _ratio(process, process.t_min)
    alpha_end = process.alpha(np.float64(process.t_min))
    x = np.random.default_rng(0).normal(size=(32, 2))
    exact = alpha_end * _exact_flow(x * start, start, stop)
    noise = jnp.asarray(x * process.sigma(np.float64(process.t_max)))
    errors, counts = [], []
    for tolerance in (1e-3, 1e-5, 1e-7):
        got, evaluations = sample(mixture(process), noise, rtol=tolerance, atol=tolerance)
        errors.append(np.max(np.abs(got - exact)))
        counts.append(int(evaluations))
    print(f"| {name} | {' | '.join(f'{e:.1e} at {n}' for e, n in zip(errors, counts, strict=True))} |")
    assert errors[0] < 3e-2
    assert errors[1] < 2e-4
    assert errors[2] < 1e-6
    assert counts[0] < counts[1] < counts[2] <= 180


@pytest.mark.parametrize("name", ["flow", "vp_cosine_shifted", "trigonometric"])
def test_both_singular_ends(name):
    """From no signal to no noise, in float32 and without a warning, against the affine map of a Gaussian."""
    process, mean, std = PROCESSES[name], 0.7, 0.3
    scale = process.sigma(np.float64(process.t_max))
    x = scale * np.random.default_rng(1).normal(size=(32, 2))
    with np.errstate(all="raise", under="ignore"):
        got, evaluations = sample(
            jd.denoisers.gaussian(process, mean, std), jnp.asarray(x, jnp.float32), rtol=1e-6, atol=1e-6
        )
    exact = mean + std * x / scale
    error = np.max(np.abs(got - exact))
    print(f"{name}: error {error:.1e} with {evaluations} evaluations")
    # The end that is left out costs 1e-6 |x| / (2 s^2), which is 6e-6 at one standard deviation.
    assert error < 3e-5
    assert got.dtype == jnp.float32


def test_number_of_evaluations_is_the_hosts_count():
    """In both directions, with data so narrow that the first attempt away from them is rejected too."""
    process = P.edm(1e-5, 80.0)
    denoiser = Counted(jd.denoisers.gaussian_mixture(process, [0.5, 0.5], [[-0.5], [0.5]], [1e-3, 1e-3]))
    noise = jd.prior_sample(jax.random.key(0), process, (8, 1))
    there = jax.jit(
        lambda x, tolerance: probability_flow.transport(denoiser, x, to_noise=True, rtol=tolerance, atol=tolerance)
    )
    data, _ = sample(denoiser, noise, rtol=1e-5, atol=1e-5)
    for tolerance in (1e-2, 1e-6):
        for run in (
            lambda tolerance: sample(denoiser, noise, rtol=tolerance, atol=tolerance)[1],
            lambda tolerance: there(data, tolerance).evaluations,
        ):
            CALLS.clear()
            evaluations = int(run(tolerance))
            jax.effects_barrier()
            assert evaluations == len(CALLS)
            assert max(CALLS) <= process.t_max * (1 + 1e-6)
            assert min(CALLS) >= process.t_min * (1 - 1e-6)
    assert CALLS.count(CALLS[0]) == 1  # a rejected attempt does not evaluate its first stage again


def test_the_batch_does_not_hide_an_example():
    """Hard examples, near the ridge between two modes, are as accurate among thousands of easy examples as alone.

    If the norm were the mean over the batch, their error would be 8e-4 here, 80 times the tolerance.
    """
    denoiser = jd.denoisers.gaussian_mixture(P.flow(), [0.5, 0.5], [[-1.0], [1.0]], [0.05, 0.05])
    hard, easy = jnp.asarray([[0.01], [0.02], [-0.015], [0.03]]), jnp.ones((4096, 1))
    exact, _ = sample(denoiser, jnp.tile(hard, (1025, 1)), rtol=1e-6, atol=1e-6)  # of one shape: compiled once
    together, evaluations = sample(denoiser, jnp.concatenate([hard, easy]), rtol=1e-5, atol=1e-5)
    error = np.max(np.abs(together[:4] - exact[:4]))
    print(f"among 4,100: {error:.1e} with {evaluations} evaluations")
    assert error < 1e-4


def test_stops_at_end():
    """Against scipy's solution at the same end."""
    process = P.vp_linear()
    x = jnp.asarray(np.random.default_rng(2).normal(size=(4, 2)), jnp.float32)
    end = 0.3
    rho = _ratio(process, end)
    start = _ratio(process, process.t_max)
    exact = process.alpha(end) * _exact_flow(np.asarray(x, np.float64) / process.alpha(1.0), start, rho)
    got, _ = sample(mixture(process), x, end=end)
    np.testing.assert_allclose(got, exact, atol=1e-4)


def test_not_arriving_is_an_error():
    """Within too few steps, and with a denoiser that returns NaN."""
    for factor in (1.0, jnp.nan):
        denoiser = jd.denoisers.from_network(P.flow(), jd.parametrizations.velocity(), _scaled, jnp.asarray(factor))
        with pytest.raises(
            Exception, match=r"did not arrive within max_steps = 3.*look whether the denoiser returns NaN"
        ):
            jax.block_until_ready(sample(denoiser, jnp.ones((4, 2)), max_steps=3))


def _scaled(params, x, t):
    return params * x


@jd.trees.register
@dataclasses.dataclass(frozen=True)
class Guided:
    """Guidance between Gaussians of equal standard deviation about 0 and `mean`: a Gaussian about `scale * mean`."""

    inner: jd.denoisers.GaussianDenoiser
    scale: jax.Array

    @property
    def process(self):
        return self.inner.process

    def __call__(self, x, t):
        return dataclasses.replace(self.inner, mean=self.inner.mean * self.scale)(x, t)


def test_transformations():
    """vmap over a guidance scale, and grad with respect to it, against the affine map x = scale m + s z."""
    process = P.flow()
    inner = jd.denoisers.gaussian(process, 0.7, 0.3)
    z = jnp.asarray(np.random.default_rng(3).normal(size=(4, 2)), jnp.float32)
    scales = jnp.asarray([0.0, 1.0, 3.0])

    def run(scale):
        return adaptive(Guided(inner, scale), z, rtol=1e-6, atol=1e-6)[0]

    got = jax.jit(jax.vmap(run))(scales)
    np.testing.assert_allclose(got, scales[:, None, None] * 0.7 + 0.3 * z, atol=3e-5)
    slope = jax.jit(jax.grad(lambda scale: jnp.sum(run(scale) ** 2)))(1.0)
    np.testing.assert_allclose(slope, np.sum(2 * (0.7 + 0.3 * np.asarray(z)) * 0.7), rtol=1e-3)


@pytest.mark.parametrize("max_steps", [20, 64])
def test_derivatives_over_several_stretches(max_steps, x64):
    """With respect to the noise, and to a number that a function holds, against the affine map x = scale m + s z."""
    process = P.flow()
    z = jnp.asarray(np.random.default_rng(4).normal(size=(3, 2)))

    def functional(scale, z):
        denoiser = jd.denoisers.from_function(
            process, lambda x, t: jd.denoisers.gaussian(process, 0.7 * scale, 0.3)(x, t).x0
        )
        x, evaluations = adaptive(denoiser, z, rtol=1e-6, atol=1e-6, max_steps=max_steps)
        return jnp.sum(x**2), evaluations

    (of_scale, of_z), evaluations = jax.jit(jax.grad(functional, argnums=(0, 1), has_aux=True))(2.0, z)
    x = 1.4 + 0.3 * np.asarray(z)
    np.testing.assert_allclose(of_scale, np.sum(2 * x * 0.7), rtol=1e-4)
    np.testing.assert_allclose(of_z, 2 * x * 0.3, rtol=1e-4, atol=1e-5)
    # States are kept at every fifth or eighth step.
    assert (evaluations - 1) / 6 > 10


def test_pytrees_and_one_compilation():
    process = P.flow()
    traces = []

    def network(params, x, t):
        traces.append(None)
        return jax.tree.map(lambda leaf: params * leaf, x)

    denoiser = jd.denoisers.from_network(process, jd.parametrizations.velocity(), network, jnp.asarray(0.5))
    x = {"image": jnp.ones((3, 2, 2)), "label": (jnp.full((3,), 2.0),)}
    got, _ = sample(denoiser, x, rtol=1e-5, atol=1e-5)
    # dx/dt = x/2 from t = 1 to 0. Over the last thousandth of the way x/alpha is kept.
    np.testing.assert_allclose(got["image"], np.exp(-0.5 * 0.999) / 0.999, rtol=1e-4)
    np.testing.assert_allclose(got["label"][0], 2 * np.exp(-0.5 * 0.999) / 0.999, rtol=1e-4)
    before = len(traces)
    sample(dataclasses.replace(denoiser, params=jnp.asarray(0.7)), x, rtol=1e-4, atol=1e-3)
    assert len(traces) == before


def test_wrong_arguments_are_named():
    denoiser, x = mixture(P.flow()), jnp.ones((2, 2))
    for error, match, options in (
        (ValueError, "rtol = 0", {"rtol": 0}),
        (ValueError, "atol = 2", {"atol": 2}),
        (ValueError, "end = 1.0", {"end": 1.0}),
        (ValueError, "end = -0.1", {"end": -0.1}),
        (ValueError, "max_steps = 2.5", {"max_steps": 2.5}),
    ):
        with pytest.raises(error, match=match):
            adaptive(denoiser, x, **options)
    with pytest.raises(TypeError, match="denoiser = 'x'"):
        adaptive("x", x)
    with pytest.raises(TypeError, match=r"x\.dtype = int32"):
        adaptive(denoiser, jnp.ones((2, 2), jnp.int32))
