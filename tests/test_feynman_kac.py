"""Feynman-Kac correctors against quadrature of the exact products of powers, in one dimension."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import jaxdiff as jd
from jaxdiff import grids
from jaxdiff.sampling import feynman_kac

KEY = jax.random.key(0)
PROCESS = jd.processes.edm(0.01, 40.0)
# Two mixtures of two normal distributions: weights, means and standard deviations.
ONE, OTHER = ([0.6, 0.4], [-2.0, 1.5], [1.0, 1.2]), ([0.4, 0.6], [-1.5, 2.0], [0.8, 0.7])
TIMES = grids.karras(PROCESS, 200)
run = jax.jit(feynman_kac, static_argnames="populations")


def _mixture(process, weights, means, stds):
    return jd.denoisers.gaussian_mixture(process, weights, np.reshape(means, (2, 1)), stds)


def _log_density(mixture, y, noise=0.0):
    return np.log(sum(w * stats.norm.pdf(y, m, np.hypot(s, noise)) for w, m, s in zip(*mixture, strict=True)))


def _exact(exponents):
    """The mean, the mean square and the probability of positive numbers; and the logarithm of the evidence.

    The evidence is the integral of the product, over its integral at the noise from which the particles start.
    """

    def integral(grid, noise):
        logs = sum(a * _log_density(m, grid, noise) for a, m in zip(exponents, (ONE, OTHER), strict=True))
        density = np.exp(logs - logs.max())
        return density, np.log(density.sum() * (grid[1] - grid[0])) + logs.max()

    grid = np.linspace(-15, 15, 20_001)
    density, log_integral = integral(grid, 0.0)
    density /= density.sum()
    moments = [np.sum(density * f(grid)) for f in (lambda x: x, np.square, lambda x: x > 0)]
    start = integral(np.linspace(-600, 600, 20_001), PROCESS.t_max)[1]
    return np.array([*moments, log_integral - start])


@functools.cache
def _drawn(exponents, resample_below=0.5, data_std=2.0):
    """Estimates `[populations, 4]` of what `_exact` gives, with weights; and the first three without weights."""
    populations, count = 16, 500
    noise = jd.prior_sample(jax.random.key(1), PROCESS, (populations * count, 1))
    denoisers = [_mixture(PROCESS, *m) for m in (ONE, OTHER)]
    got = run(
        KEY, denoisers, noise, TIMES, exponents=exponents, data_std=data_std, populations=populations,
        resample_below=resample_below,
    )  # fmt: skip
    x = np.asarray(got.x, np.float64).reshape(populations, count)
    functions = np.stack([x, x**2, x > 0])
    weighted = np.sum(np.asarray(got.weights, np.float64) * functions, axis=-1)
    evidence = np.asarray(got.log_evidence)[None]
    return np.concatenate([weighted, evidence]).T, functions.mean(axis=-1).T


EXPONENTS = {"colder": (2.0, 0.0), "warmer": (0.6, 0.0), "product": (1.0, 1.0), "guidance": (-2.0, 3.0)}


@pytest.mark.parametrize("case", EXPONENTS)
@pytest.mark.parametrize("data_std", [2.0, np.inf])
def test_products_and_powers_are_exact_by_weights(case, data_std):
    """Within the error of 16 independent populations, and 0.02 for the 200 steps."""
    got, _ = _drawn(EXPONENTS[case], data_std=data_std)
    error = 4 * got.std(axis=0) / np.sqrt(len(got) - 1)
    np.testing.assert_array_less(np.abs(got.mean(axis=0) - _exact(EXPONENTS[case])), 0.02 + error)
    if data_std == 2.0:  # the test can fail
        np.testing.assert_array_less(error, [0.15, 0.4, 0.03, 0.05])


@pytest.mark.parametrize("case", EXPONENTS)
def test_without_weights_the_published_steps_sample_another_distribution(case):
    _, plain = _drawn(EXPONENTS[case], resample_below=0.0, data_std=np.inf)
    error = 4 * plain.std(axis=0) / np.sqrt(len(plain) - 1)
    away = np.abs(plain.mean(axis=0) - _exact(EXPONENTS[case])[:3])
    assert (away > 0.1 + error).any()


@pytest.mark.parametrize("exponents", [(0.7, 0.6), (2.0, 1.0), (-1.5, 2.5)])
def test_gaussian_steps_need_no_weights(exponents):
    """Of normal distributions N(0, data_std^2), few steps already give equal weights and the exact variance."""
    count, std = 20_000, 1.5
    denoiser = jd.denoisers.gaussian(PROCESS, 0.0, std)
    noise = jd.prior_sample(jax.random.key(1), PROCESS, (count, 1))
    times = grids.karras(PROCESS, 30, sigma_min=0.05)
    got = run(KEY, [denoiser] * 2, noise, times, exponents=exponents, data_std=std)
    np.testing.assert_allclose(got.weights, 1 / count, rtol=0.02)
    np.testing.assert_allclose(np.var(got.x) * sum(exponents), std**2, rtol=5 * np.sqrt(2 / count))


def test_each_population_follows_its_key_on_any_process():
    """Pytrees, on a process that scales the data: two populations, and the same two in the other order."""
    process = jd.processes.vp_linear()
    keys, x = jax.random.split(KEY, 2), {"a": jnp.ones((8, 3)), "b": jnp.zeros((8, 2, 2))}
    denoisers = [jd.denoisers.gaussian(process, {"a": m, "b": -m}, 0.5) for m in (1.0, 2.0)]
    noise = jd.prior_sample(KEY, process, x)
    turned = jax.tree.map(lambda leaf: jnp.roll(leaf, 4, axis=0), noise)
    one, other = (
        run(k, denoisers, x, grids.karras(process, 20), exponents=(-1.0, 2.0), populations=2)
        for k, x in ((keys, noise), (keys[::-1], turned))
    )
    for name in x:
        np.testing.assert_allclose(one.x[name], jnp.roll(other.x[name], 4, axis=0), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(one.log_evidence, other.log_evidence[::-1], rtol=1e-4, atol=1e-4)


def test_vmap_over_guidance_scales_is_a_loop():
    """One population for each scale, all with the same noise; both branches of the resampling are computed then."""
    denoisers = [jd.denoisers.gaussian(PROCESS, m, 0.5) for m in (0.0, 1.0)]
    noise, times = jd.prior_sample(KEY, PROCESS, (8, 1)), grids.karras(PROCESS, 10)

    def one(scale):
        return feynman_kac(KEY, denoisers, noise, times, exponents=(1 - scale, scale), resample_below=0.95)

    scales = jnp.asarray([1.0, 2.0, 4.0])
    together, alone = jax.jit(jax.vmap(one))(scales), jax.jit(one)
    for i, scale in enumerate(scales):
        np.testing.assert_allclose(together.x[i], alone(scale).x, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(together.log_evidence[i], alone(scale).log_evidence, rtol=1e-4, atol=1e-4)


X = jnp.ones((4, 1))
GAUSSIAN = jd.denoisers.gaussian(PROCESS)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: feynman_kac(KEY, [], X, 5, exponents=[]), ValueError, "denoisers = "),
        (lambda: feynman_kac(KEY, [GAUSSIAN], X, 5, exponents=(1.0, 2.0)), ValueError, r"exponents\.shape = \(2,\); allowed are \(1,\)"),
        (lambda: feynman_kac(KEY, [GAUSSIAN], X, 5, exponents=[-1.0]), ValueError, r"sum of exponents = -1\.0"),
        (lambda: feynman_kac(KEY, [GAUSSIAN, jd.denoisers.gaussian(jd.processes.flow())], X, 5, exponents=(1, 1)), ValueError, "process of denoisers = Flow"),
        (lambda: feynman_kac(KEY, [jd.denoisers.gaussian(jd.processes.flow())], X, [1.0, 0.0], exponents=[1]), ValueError, "times.*without signal"),
        (lambda: feynman_kac(jax.random.split(KEY, 4), [GAUSSIAN], X, 5, exponents=[1]), ValueError, "one key per population"),
        (lambda: feynman_kac(KEY, [GAUSSIAN], X, 5, exponents=[1], resample_below=2), ValueError, "resample_below = 2"),
    ],
)  # fmt: skip
def test_wrong_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()
