"""Twisted SMC against exact posteriors: the sampler's own prior is known, so that few steps are exact too."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import MEANS, STDS, WEIGHTS, mixture
from moments import of_gaussian
from scipy import stats

import jaxdiff as jd
from jaxdiff import grids, solvers, trees
from jaxdiff.posterior import gaussian_twist, twisted_smc

KEY = jax.random.key(0)
PROCESS = jd.processes.edm(0.05, 20.0)
POPULATIONS, COUNT = 16, 500
run = jax.jit(twisted_smc, static_argnames="populations")
MEAN, STD, NOISE, OBSERVED = np.array([0.5, -0.3]), np.array([0.8, 1.2]), 0.4, np.array([[1.1]])
ROW = np.array([1.0, 0.5])


def observe(x):
    """The sum of the first coordinate and half of the second."""
    return x @ jnp.asarray(ROW)[:, None]


def _averages(particles, functions):
    """Estimates of means of functions of x, and of the log-evidence, with four standard errors over the populations."""
    x = np.asarray(particles.x, np.float64).reshape(POPULATIONS, COUNT, -1)
    weights = np.asarray(particles.weights, np.float64)
    values = [np.sum(weights * f(x), axis=1) for f in functions] + [np.asarray(particles.log_evidence, np.float64)]
    return np.mean(values, axis=1), 4 * np.std(values, axis=1) / np.sqrt(POPULATIONS - 1)


FIRST_TWO = [
    lambda x: x[..., 0],
    lambda x: x[..., 1],
    lambda x: x[..., 0] ** 2,
    lambda x: x[..., 0] * x[..., 1],
    lambda x: x[..., 1] ** 2,
]


def _gaussian_case(solver):
    """A Gaussian prior, the noise to start from, a tableau of ten steps, and the exact answers to `FIRST_TWO`."""
    tableau = solver(PROCESS, grids.karras(PROCESS, 10))
    z = np.random.default_rng(0).normal(size=(POPULATIONS * COUNT, 2))
    x = MEAN + np.sqrt(STD**2 + PROCESS.t_max**2) * z  # the exact marginal, from which `of_gaussian` starts
    moments = [of_gaussian(tableau, m, s) for m, s in zip(MEAN, STD, strict=True)]
    prior_mean, prior = np.array([m for m, _ in moments]), np.diag([v for _, v in moments])
    variance = ROW @ prior @ ROW + NOISE**2
    gain = prior @ ROW / variance
    mean = prior_mean + gain * (OBSERVED[0, 0] - ROW @ prior_mean)
    second = prior - np.outer(gain, ROW @ prior) + np.outer(mean, mean)
    evidence = stats.norm.logpdf(OBSERVED[0, 0], ROW @ prior_mean, np.sqrt(variance))
    evidence += np.log(2 * np.pi * NOISE**2) / 2  # the constant that the twist leaves out
    exact = np.array([*mean, second[0, 0], second[0, 1], second[1, 1], evidence])
    return jd.denoisers.gaussian(PROCESS, MEAN, STD), jnp.asarray(x, jnp.float32), tableau, exact


@trees.register
@dataclasses.dataclass(frozen=True)
class Blunt:
    """The likelihood without noise, and a twist with too little noise before: wrong, but allowed."""

    observation: jax.Array
    noise: jax.Array

    def __call__(self, x0, t):
        squares = jnp.sum((self.observation - observe(x0)) ** 2, axis=-1)
        return -squares / jnp.where(t > 0, 20.0, 2 * self.noise**2)


TWISTS = {
    "gaussian": gaussian_twist(PROCESS, observe, OBSERVED, NOISE),
    "blunt": Blunt(jnp.asarray(OBSERVED), jnp.asarray(NOISE)),
}
SOLVERS = {
    "ddpm": solvers.ddpm,
    "large": lambda process, times: solvers.ddpm(process, times, variance="large"),
    "noise prediction": lambda process, times: solvers.reverse_diffusion(process, times),
}


@pytest.mark.parametrize("twist", TWISTS)
@pytest.mark.parametrize("solver", SOLVERS)
def test_the_posterior_of_a_gaussian_is_exact_with_any_twist_and_few_steps(solver, twist):
    """The first two moments and the evidence, of the posterior whose prior is what ten steps of the solver draw."""
    denoiser, x, tableau, exact = _gaussian_case(SOLVERS[solver])
    for resample_below in (0.0, 0.7):
        particles = run(
            KEY, denoiser, x, tableau, TWISTS[twist], populations=POPULATIONS, resample_below=resample_below
        )
        got, error = _averages(particles, FIRST_TWO)
        assert error.max() < 0.3  # the test can fail
        np.testing.assert_array_less(np.abs(got - exact), error + 1e-4)


def test_without_weights_the_guided_steps_miss():
    denoiser, x, tableau, exact = _gaussian_case(solvers.ddpm)
    particles = run(KEY, denoiser, x, tableau, TWISTS["gaussian"], populations=POPULATIONS, resample_below=0.0)
    got, error = _averages(dataclasses.replace(particles, log_weights=jnp.zeros((POPULATIONS, COUNT))), FIRST_TWO)
    assert (np.abs(got - exact)[:5] > 0.03 + error[:5]).any()


def test_the_weights_of_the_modes_of_a_mixture():
    """A posterior of three modes: the probability of each, by the exact Gaussian mixture that the posterior is."""
    process = jd.processes.vp_linear()
    times = np.append(grids.uniform_log_snr(process, 60)[:-1], process.t_clean)
    tableau = solvers.ddpm(process, times)
    noise, y = 0.5, 0.1
    # The second coordinate is observed.
    variances = STDS**2 + noise**2
    weights = WEIGHTS * stats.norm.pdf(y, MEANS[:, 1], np.sqrt(variances))
    weights /= weights.sum()
    centres = MEANS[:, 1] + STDS**2 / variances * (y - MEANS[:, 1])
    twist = gaussian_twist(process, lambda x: x[:, 1:], np.array([[y]]), noise)
    x = jd.prior_sample(jax.random.key(1), process, (POPULATIONS * COUNT, 2))
    particles = run(KEY, mixture(process), x, tableau, twist, populations=POPULATIONS)
    got, error = _averages(particles, [lambda x: x[..., 0] > 0, *FIRST_TWO[:2]])
    wanted = [
        weights @ stats.norm.sf(0, MEANS[:, 0], STDS),
        weights @ MEANS[:, 0],
        weights @ centres,
    ]
    assert error[:3].max() < 0.1
    np.testing.assert_array_less(np.abs(got[:3] - wanted), error[:3] + 0.02)


def test_pytrees_and_a_start_without_signal():
    """A flow starts without signal, where a Gaussian twist is flat; half of the data is observed."""
    process = jd.processes.flow()
    denoiser = jd.denoisers.gaussian(process, {"a": 1.0, "b": -1.0}, 0.5)
    twist = gaussian_twist(process, lambda x: x["a"], jnp.full((1, 3), 2.0), 0.5)
    x = jd.prior_sample(KEY, process, {"a": jnp.zeros((400, 3)), "b": jnp.zeros((400, 2, 2))})
    particles = run(KEY, denoiser, x, solvers.ddpm(process, 30), twist)
    weights = np.asarray(particles.weights)[0]
    assert np.isfinite(weights).all()
    np.testing.assert_allclose(np.tensordot(weights, particles.x["a"], 1), 1.5, atol=0.1)
    np.testing.assert_allclose(np.tensordot(weights, particles.x["b"], 1), -1.0, atol=0.1)


def test_what_a_mask_hides_does_not_count():
    """The values of an observation behind a mask may be anything; the variance is that of the formula at each time."""
    x0, y = np.array([[1.0, 5.0], [2.0, 7.0]]), np.array([[1.5, np.nan]])
    twist = gaussian_twist(PROCESS, jd.posterior.operators.mask(np.array([True, False])), y, np.array([0.5, 1.0]))
    for t in (0.0, 2.0):
        wanted = -np.array([0.25 / (0.25 + t**2), 0.25 / (1 + t**2)]) / 2
        np.testing.assert_allclose(twist(jnp.asarray(x0, jnp.float32), t), wanted, rtol=1e-6)


def test_each_population_follows_its_key():
    keys = jax.random.split(KEY, 2)
    denoiser, x, tableau, _ = _gaussian_case(solvers.ddpm)
    x = x[:8]
    one = run(keys, denoiser, x, tableau, TWISTS["blunt"], populations=2, resample_below=0.9)
    other = run(
        keys[::-1], denoiser, jnp.roll(x, 4, axis=0), tableau, TWISTS["blunt"], populations=2, resample_below=0.9
    )
    np.testing.assert_allclose(one.x, jnp.roll(other.x, 4, axis=0), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(one.log_evidence, other.log_evidence[::-1], rtol=1e-4)


DENOISER, X, TABLEAU, _ = _gaussian_case(solvers.ddpm)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: twisted_smc(KEY, DENOISER, X, solvers.ddim(PROCESS, 5), TWISTS["blunt"]), ValueError, "tableau = .*solvers such as ddpm"),
        (lambda: twisted_smc(KEY, DENOISER, X, solvers.ddpm(jd.processes.flow(), 5), TWISTS["blunt"]), ValueError, r"denoiser\.process"),
        (lambda: twisted_smc(KEY, DENOISER, X, TABLEAU, 1.0), TypeError, r"twist = 1\.0"),
        (lambda: twisted_smc(KEY, DENOISER, X, TABLEAU, lambda x0, t: 0.0 * x0), ValueError, r"twist\(x0, t\)\.shape"),
        (lambda: gaussian_twist(PROCESS, observe, OBSERVED, 0.0), ValueError, r"std = 0\.0"),
        (lambda: twisted_smc(KEY, DENOISER, X, TABLEAU, gaussian_twist(PROCESS, observe, jnp.ones((3, 1)), 1.0)), ValueError, r"observation.shape = \(3, 1\)"),
    ],
)  # fmt: skip
def test_wrong_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()
