"""Moment matching against the exact posterior of a Gaussian prior, which is again a Gaussian."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import PROCESSES, inner_times

import jaxdiff as jd
from jaxdiff import denoisers, posterior
from jaxdiff.posterior import operators

KEY = jax.random.key(0)
D, M = 4, 2
RNG = np.random.default_rng(0)
FACTOR = RNG.normal(size=(D, D))
MEAN, COVARIANCE = RNG.normal(size=D), FACTOR @ FACTOR.T / 4 + 0.05 * np.eye(D)
MATRIX, OBSERVATION = RNG.normal(size=(M, D)), RNG.normal(size=(1, M))
STD = 0.3


def _times_matrix(matrix, x):
    return jnp.matmul(x, matrix.T, precision="highest")


def _prior(process):
    return denoisers.gaussian_mixture(process, [1.0], MEAN[None], COVARIANCE[None])


def _posterior(std=STD, observation=OBSERVATION):
    """The mean and the covariance of the data given the observation."""
    gain = COVARIANCE @ MATRIX.T @ np.linalg.inv(MATRIX @ COVARIANCE @ MATRIX.T + std**2 * np.eye(M))
    covariance = COVARIANCE - gain @ MATRIX @ COVARIANCE
    return MEAN + gain @ (observation[0] - MATRIX @ MEAN), (covariance + covariance.T) / 2


def _exact(process, **given):
    mean, covariance = _posterior(**given)
    return denoisers.gaussian_mixture(process, [1.0], mean[None], covariance[None])


OPERATORS = {
    "function": lambda: operators.function(_times_matrix, jnp.asarray(MATRIX)),
    "linear": lambda: operators.linear(_times_matrix, (D,), jnp.asarray(MATRIX)),
}
estimate = jax.jit(lambda denoiser, x, t: denoiser(x, t))


@pytest.mark.parametrize(
    ("name", "operator", "solver"),
    [("flow", "linear", "gmres"), ("edm", "function", "cg"), ("vp_cosine", "function", "gmres")],
)
def test_the_estimate_is_that_of_the_posterior(name, operator, solver, x64):
    """From the first time to the last, with as many iterations as observed numbers."""
    process = PROCESSES[name]
    made = posterior.mmps(_prior(process), OPERATORS[operator](), OBSERVATION, STD, iterations=M, solver=solver)
    times = np.array([*inner_times(process, 3), process.t_min + 0.002 * process.t_max])
    x = np.random.default_rng(1).normal(size=(4, D)) * (process.alpha(times) + process.sigma(times))[:, None]
    got, want = (estimate(d, jnp.asarray(x), jnp.asarray(times)) for d in (made, _exact(process)))
    np.testing.assert_allclose(got.x0, want.x0, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(got.eps, want.eps, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(jd.corrupt(process, *got, times), x, rtol=1e-10, atol=1e-12)


def test_the_estimate_is_that_of_the_posterior_in_float32():
    """More iterations than needed change nothing. The noise may be 0, and may differ between examples."""
    process, stds = PROCESSES["flow"], np.array([0.0, 0.3, 2.0], np.float32)
    times = inner_times(process, 3).astype(np.float32)
    x = np.random.default_rng(1).normal(size=(3, D)).astype(np.float32)
    want = [estimate(_exact(process, std=stds[i]), x[i : i + 1], times[i : i + 1]).x0[0] for i in range(3)]
    for iterations in (M, 6):
        made = posterior.mmps(_prior(process), OPERATORS["linear"](), OBSERVATION, stds, iterations=iterations)
        np.testing.assert_allclose(estimate(made, x, times).x0, want, rtol=1e-5, atol=1e-5)


def test_where_no_signal_is_left_the_estimate_is_the_mean_of_the_posterior(x64):
    process = PROCESSES["flow"]
    made = posterior.mmps(_prior(process), OPERATORS["linear"](), OBSERVATION, STD, iterations=M)
    x = jnp.asarray(np.random.default_rng(1).normal(size=(2, D)))
    got = estimate(made, x, jnp.asarray(process.t_noise))
    np.testing.assert_allclose(got.x0, np.stack([_posterior()[0]] * 2), atol=5e-3)
    np.testing.assert_allclose(got.eps, x / process.sigma(process.t_noise), atol=1e-9)


def test_samples_have_the_mean_and_the_covariance_of_the_posterior(x64):
    """The ODE is linear in its start for a Gaussian, so that few starts tell the mean and the covariance."""
    process = PROCESSES["flow"]
    made = posterior.mmps(_prior(process), OPERATORS["linear"](), OBSERVATION, STD, iterations=M)
    starts = jnp.concatenate([jnp.zeros((1, D)), jnp.eye(D)])
    tableau = jd.solvers.exponential(process, jd.grids.uniform_time(process, 60), order=3, prediction="velocity")
    samples = np.asarray(jd.sample(KEY, made, starts, tableau))
    mean, linear = samples[0], samples[1:] - samples[0]
    wanted_mean, wanted_covariance = _posterior()
    np.testing.assert_allclose(mean, wanted_mean, atol=2e-3)
    np.testing.assert_allclose(linear.T @ linear, wanted_covariance, atol=2e-3)
    assert np.abs(wanted_covariance - COVARIANCE).max() > 0.1


def test_a_nonlinear_operator_is_linearised_at_the_estimate(x64):
    """One Gauss-Newton step for `tanh`, beside dense float64 algebra."""
    process, t, x = PROCESSES["vp_linear"], 0.4, np.random.default_rng(1).normal(size=(1, D))
    y = np.array([[0.3, -0.6]])

    def both(matrix, x):
        return jnp.tanh(_times_matrix(matrix, x))

    made = posterior.mmps(_prior(process), operators.function(both, jnp.asarray(MATRIX)), y, STD, iterations=M)
    alpha, sigma = process.alpha(t), process.sigma(t)
    gain = alpha * COVARIANCE @ np.linalg.inv(alpha**2 * COVARIANCE + sigma**2 * np.eye(D))
    x0 = MEAN + gain @ (x[0] - alpha * MEAN)
    covariance = sigma**2 / alpha * gain
    value = np.tanh(MATRIX @ x0)
    slope = (1 - value**2)[:, None] * MATRIX
    change = covariance @ slope.T @ np.linalg.solve(slope @ covariance @ slope.T + STD**2 * np.eye(M), y[0] - value)
    np.testing.assert_allclose(estimate(made, jnp.asarray(x), t).x0[0], x0 + change, rtol=1e-9)


def test_few_iterations_are_the_least_residual_of_a_krylov_space(x64):
    """Generalised minimal residuals, by brute force, for a denoiser whose derivative is not symmetric."""
    process, t = PROCESSES["edm"], 0.7
    skew = np.random.default_rng(4).normal(size=(D, D))
    prior = denoisers.from_function(process, lambda x, t: jnp.tanh(x @ skew))
    x, y = np.random.default_rng(1).normal(size=(1, D)), np.random.default_rng(2).normal(size=(1, D))
    x0 = np.tanh(x[0] @ skew)
    jacobian = (1 - x0**2)[:, None] * skew.T
    covariance = t**2 * jacobian.T
    matrix = covariance + STD**2 * np.eye(D)
    r = y[0] - x0
    for k in (1, 2, 3):
        krylov = np.stack([np.linalg.matrix_power(matrix, j) @ r for j in range(k)], 1)
        u = krylov @ np.linalg.lstsq(matrix @ krylov, r)[0]
        got = estimate(posterior.mmps(prior, operators.identity(), y, STD, iterations=k), jnp.asarray(x), t)
        np.testing.assert_allclose(got.x0[0], x0 + covariance @ u, rtol=1e-8)


def test_what_a_mask_hides_does_not_count():
    process, t = PROCESSES["vp_linear"], 0.4
    x = np.random.default_rng(1).normal(size=(2, D)).astype(np.float32)
    hidden = operators.mask(np.array([True, False, True, False]))
    observations = np.array([[0.5, 0.0, -0.3, 0.0]]), np.array([[0.5, 1e3, -0.3, np.nan]])
    clean, other = (estimate(posterior.mmps(_prior(process), hidden, y, STD), x, t) for y in observations)
    chex.assert_trees_all_equal(clean, other)


def test_an_empty_observation_changes_nothing_and_a_full_one_is_kept():
    process, t = PROCESSES["vp_linear"], 0.4
    x = np.random.default_rng(1).normal(size=(2, D)).astype(np.float32)
    y = np.random.default_rng(2).normal(size=(2, D)).astype(np.float32)
    nothing, whole = (
        posterior.mmps(_prior(process), operators.mask(mask), y, 0.0, iterations=D)
        for mask in (np.zeros(D), np.ones(D))
    )
    chex.assert_trees_all_close(estimate(nothing, x, t), estimate(_prior(process), x, t), rtol=1e-6)
    np.testing.assert_allclose(estimate(whole, x, t).x0, y, atol=1e-4)


def test_numbers_are_leaves_and_examples_do_not_see_each_other(x64):
    """Another operator, observation or noise compiles nothing, and `vmap` over noise levels is a loop."""
    process, x = PROCESSES["flow"], jnp.asarray(np.random.default_rng(1).normal(size=(3, D)))
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(1)
    def run(denoiser, x):
        return denoiser(x, 0.6).x0

    def at(std, matrix=MATRIX, observation=OBSERVATION):
        return posterior.mmps(
            _prior(process), operators.linear(_times_matrix, (D,), jnp.asarray(matrix)), observation, std
        )

    first = run(at(0.1), x)
    for made in (at(0.5), at(0.1, 2 * MATRIX), at(0.1, observation=-OBSERVATION)):
        assert np.abs(run(made, x) - first).max() > 1e-3
    stds = jnp.array([0.1, 0.5, 2.0])
    mapped = jax.jit(jax.vmap(lambda std: at(std)(x, 0.6).x0))(stds)
    np.testing.assert_allclose(mapped, [run(at(float(std)), x) for std in stds], rtol=1e-9)
    per_example = posterior.mmps(
        _prior(process), operators.linear(_times_matrix, (D,), jnp.asarray(MATRIX)), OBSERVATION, stds
    )
    np.testing.assert_allclose(estimate(per_example, x, 0.6).x0, [mapped[i, i] for i in range(3)], rtol=1e-9)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda p: posterior.mmps(3, operators.identity(), OBSERVATION, 0.1), TypeError, "denoiser = 3"),
        (lambda p: posterior.mmps(p, 3, OBSERVATION, 0.1), TypeError, "operator = 3; allowed are functions x -> y"),
        (lambda p: posterior.mmps(p, operators.identity(), OBSERVATION, -0.1), ValueError, "std = -0.1; allowed are finite numbers of at least 0"),
        (lambda p: posterior.mmps(p, operators.identity(), OBSERVATION, np.ones((2, 2))), ValueError, r"std\.shape = \(2, 2\)"),
        (lambda p: posterior.mmps(p, operators.identity(), OBSERVATION, 0.1, iterations=0), ValueError, "iterations = 0"),
        (lambda p: posterior.mmps(p, operators.identity(), OBSERVATION, 0.1, solver="gmre"), ValueError, "solver = 'gmre'.*did you mean 'gmres'"),
        (lambda p: posterior.mmps(p, operators.identity(), np.ones((3, D)), 0.1)(np.ones((2, D)), 0.5), ValueError,
         r"observation\.shape = \(3, 4\); allowed are \(2, 4\) and \(1, 4\), as operator\(x\)"),
    ],
)  # fmt: skip
def test_wrong_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make(_prior(PROCESSES["flow"]))
