"""Likelihoods against exact densities of Gaussians, mixtures and levels; encoding against the quantile map."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import WEIGHTS
from scipy import integrate, optimize, special, stats

import jaxdiff as jd
from jaxdiff import grids
from jaxdiff.arithmetic import namespace
from jaxdiff.likelihood import bits_per_dimension, decode, dequantize, encode, log_density

P = jd.processes
STATIC = ("divergence", "probes", "probe_count", "max_steps")
score = jax.jit(log_density, static_argnames=STATIC)
to_noise, to_data = jax.jit(encode), jax.jit(decode)


def _mixture(d):
    """Means and standard deviations of three components in d dimensions, not centred on anything."""
    rng = np.random.default_rng(d)
    return rng.normal(size=(3, d)) + 0.3, np.array([0.4, 0.5, 0.7])


def _log_mixture(process, t, x, means, stds):
    """log p_t of the mixture: its components are N(alpha m, alpha^2 s^2 + sigma^2). x is [n, d]."""
    x = np.asarray(x, np.float64)
    alpha, sigma = process.alpha(np.float64(t)), process.sigma(np.float64(t))
    v = alpha**2 * stds**2 + sigma**2
    square = np.sum((x[:, None] - alpha * means) ** 2, -1)
    return special.logsumexp(np.log(WEIGHTS) - x.shape[1] / 2 * np.log(2 * np.pi * v) - square / (2 * v), axis=1)


def _log_normal(x, mean, std):
    return np.sum(stats.norm.logpdf(np.asarray(x, np.float64), mean, std), axis=-1)


def _grid(process, steps, low=1e-3):
    """Equal steps in log-SNR between the ends of the process. Where log-SNR is infinite, the steps go from pure noise,
    or to sigma/alpha = `low`.
    """
    alpha, sigma = (
        process.alpha(np.array([process.t_min, process.t_max])),
        process.sigma(np.array([process.t_min, process.t_max])),
    )
    ends = 2 * np.log(np.maximum(alpha, 1e-2)) - 2 * np.log(np.maximum(sigma, low))
    times = grids.uniform_log_snr(process, steps, log_snr_min=ends[1], log_snr_max=ends[0])
    times[0], times[-1] = process.t_max, process.t_min
    return times


# name: (the process, the same with a prior that is right to 1e-3, dimension, fixed steps or None for adaptive ones)
CASES = {
    "vp_linear": (P.vp_linear(), P.vp_linear(beta_max=45.0), 2, None),
    "ve": (P.ve(), P.ve(sigma_max=2e4), 16, 80),
    "edm": (P.edm(), P.edm(sigma_max=2e4), 3, None),
    "flow": (P.flow(), P.flow(), 16, 80),
    "vp_cosine": (P.vp_cosine(), P.vp_cosine(), 8, 80),
    "trigonometric": (P.trigonometric(0.5), P.trigonometric(2.0), 5, 80),
}


@pytest.mark.parametrize("name", CASES)
def test_mixture(name):
    """In float32, the error is at most 1e-3 nats per dimension of the exact density at t_min, where the prior fits.

    Where the prior is not p_T, the error is at most 1e-4 of the exact density of the distribution that the ODE makes of
    the prior, `log p_min(x) + log N(x_T; 0, sigma_T^2) - log p_T(x_T)`.
    """
    usual, wide, d, steps = CASES[name]
    means, stds = _mixture(d)
    rng = np.random.default_rng(0)
    which = rng.choice(3, size=48, p=WEIGHTS)
    x = (means[which] + stds[which, None] * rng.normal(size=(48, d))).astype(np.float32)
    for process in (usual, wide):
        denoiser = jd.denoisers.gaussian_mixture(process, WEIGHTS, means, stds)
        got = score(denoiser, x, times=None if steps is None else jnp.asarray(_grid(process, steps)))
        exact = _log_mixture(process, process.t_min, x, means, stds)
        latent, std = np.asarray(got.latent, np.float64), process.sigma(process.t_max)
        mismatch = _log_normal(latent, 0, std) - _log_mixture(process, process.t_max, latent, means, stds)
        plain, corrected = (np.max(np.abs(got.log_density - e)) / d for e in (exact, exact + mismatch))
        print(f"{name} d={d} evaluations {got.evaluations}: {plain:.1e}, prior accounted for {corrected:.1e}")
        assert corrected < 1e-4
        assert process is usual or plain < 1e-3
        assert got.log_density.dtype == jnp.float32


class Scaled(P.Process):
    """`x = scale (x0 + t eps)` with `scale = 1/sqrt(1 + t^2)`."""

    def alpha(self, t):
        return 1 / namespace(t).sqrt(1 + t**2)

    def sigma(self, t):
        return t / namespace(t).sqrt(1 + t**2)


@pytest.mark.parametrize("process", [P.edm(1e-3, 5e3), Scaled(t_min=1e-3, t_max=5e3)], ids=["unscaled", "scaled"])
def test_the_prior_of_a_scaled_process_is_scaled(process):
    """Data N(0, I_4) have log-density -4.69 at |x|^2 = 2.0285.

    If the standard deviation of the prior were sigma instead of scale sigma, the result would be far off.
    """
    direction = np.array([[1.0, -2.0, 3.0, 0.5], [0.0, 0.0, 0.0, 1.0]])
    square = 2 * (4.69 - 2 * np.log(2 * np.pi))
    x = direction / np.linalg.norm(direction, axis=1, keepdims=True) * np.sqrt(square)
    got = score(jd.denoisers.gaussian(process, 0.0, 1.0), jnp.asarray(x, jnp.float32)).log_density
    np.testing.assert_allclose(got, -4.69, atol=1e-3)


@functools.cache
def _gaussian_case():
    """A pytree of data with a known model density: the ODE of a Gaussian is affine."""
    process = P.vp_linear()
    mean, std = {"a": 0.7, "b": np.array([-0.2, 0.1])}, {"a": 0.6, "b": np.array([0.3, 1.2])}
    rng = np.random.default_rng(1)
    x = {"a": rng.normal(size=(5, 3)), "b": rng.normal(size=(5, 2, 2))}
    x = {k: jnp.asarray(mean[k] + std[k] * v, jnp.float32) for k, v in x.items()}
    return process, mean, std, x


def _affine(process, mean, std):
    """x_T = m_T + s_T/s_min (x - m_min), for the marginals N(m_t, s_t^2)."""
    ends = np.array([process.t_min, process.t_max])
    alpha, sigma = process.alpha(ends), process.sigma(ends)
    (m0, m1), (s0, s1) = (alpha * mean, np.sqrt(alpha**2 * std**2 + sigma**2))
    return s1 / s0, m1 - s1 / s0 * m0


def test_pytrees_against_the_affine_map_of_a_gaussian():
    process, mean, std, x = _gaussian_case()
    got = score(jd.denoisers.gaussian(process, mean, std), x)
    exact = 0.0
    for name, leaf in x.items():
        for index in np.ndindex(leaf.shape[1:]):
            slope, offset = _affine(
                process,
                np.broadcast_to(mean[name], leaf.shape[1:])[index],
                np.broadcast_to(std[name], leaf.shape[1:])[index],
            )
            latent = slope * np.asarray(leaf, np.float64)[(slice(None), *index)] + offset
            np.testing.assert_allclose(got.latent[name][(slice(None), *index)], latent, atol=1e-4)
            exact = exact + stats.norm.logpdf(latent, 0, process.sigma(process.t_max)) + np.log(slope)
    assert np.max(np.abs(got.log_density - exact)) / 7 < 1e-4


def test_derivative_of_the_log_density():
    """`d log p / d mean` through the adaptive solver, against the derivative of the affine map."""
    process = P.vp_linear()
    x = jnp.asarray(np.random.default_rng(2).normal(size=(3, 2)), jnp.float32)

    def total(mean):
        return jnp.sum(log_density(jd.denoisers.gaussian(process, mean, 0.6), x, rtol=1e-4, atol=1e-4).log_density)

    got = jax.jit(jax.grad(total))(0.7)
    slope, offset = _affine(process, 0.7, 0.6)
    one_up = _affine(process, 1.7, 0.6)[1] - offset  # the offset is linear in the mean
    exact = -np.sum(slope * np.asarray(x, np.float64) + offset) * one_up / process.sigma(process.t_max) ** 2
    np.testing.assert_allclose(got, exact, rtol=1e-3)


# --------------------------------------------------------------------------------------- estimates

N = 4000


@pytest.mark.parametrize(("probes", "count"), [("rademacher", 1), ("gaussian", 2)])
def test_hutchinson_is_unbiased(probes, count):
    """The mean over N draws is the result with the exact divergence, within four standard errors."""
    process, d = P.vp_cosine(), 4
    means, stds = _mixture(d)
    denoiser = jd.denoisers.gaussian_mixture(process, WEIGHTS, means, stds)
    times = jnp.asarray(_grid(process, 12))
    x = jnp.asarray(np.broadcast_to(means[0] + 0.3, (N, d)), jnp.float32)
    exact = score(denoiser, x[:2], times=times).log_density[0]
    options = {"divergence": "hutchinson", "probes": probes, "probe_count": count, "times": times}
    keys = jax.random.split(jax.random.key(3), N)
    drawn = np.asarray(score(denoiser, x, key=keys, **options).log_density)
    assert drawn.std() > 0.05  # there is something to average
    assert abs(drawn.mean() - exact) < 4 * drawn.std() / np.sqrt(N)
    if probes == "rademacher":  # a draw depends on its own key alone
        moved = score(denoiser, x, key=keys[::-1], **options).log_density
        np.testing.assert_allclose(moved[::-1], drawn, atol=2e-5)


def test_signs_are_exact_for_a_diagonal_jacobian():
    process, mean, std, x = _gaussian_case()
    denoiser = jd.denoisers.gaussian(process, mean, std)
    times = jnp.asarray(_grid(process, 12))
    exact = score(denoiser, x, times=times).log_density
    got = score(denoiser, x, times=times, divergence="hutchinson", key=jax.random.key(0)).log_density
    np.testing.assert_allclose(got, exact, atol=2e-5)


# ------------------------------------------------------------------------------ encoding, decoding


def _both_ways(denoiser, x, latent, **options):
    back = to_data(denoiser, to_noise(denoiser, x, **options), **options)
    forth = to_noise(denoiser, to_data(denoiser, latent, **options), **options)
    std = denoiser.process.sigma(denoiser.process.t_max)
    return float(jnp.max(jnp.abs(back - x))), float(jnp.max(jnp.abs(forth - latent)) / std)


def test_round_trip():
    process = P.flow()
    means, stds = _mixture(3)
    x = means[np.arange(60) % 3] + 0.6 * np.random.default_rng(5).normal(size=(60, 3))
    denoiser = jd.denoisers.gaussian_mixture(process, WEIGHTS, means, stds)
    latent = process.sigma(process.t_max) * np.random.default_rng(4).normal(size=x.shape)
    points = jnp.asarray(x, jnp.float32), jnp.asarray(latent, jnp.float32)
    errors = _both_ways(denoiser, *points)
    fixed = _both_ways(denoiser, *points, times=jnp.asarray(_grid(process, 120)))
    print(f"adaptive steps {errors}, fixed steps {fixed}")
    assert max(*errors, *fixed) <= 1e-4


def test_encoding_in_one_dimension_is_the_quantile_map(x64):
    """Between two distributions on the line there is one monotone map: `x_T = F_T^-1(F_min(x))`."""
    process = P.flow(t_min=0.01)
    means, stds = _mixture(1)
    denoiser = jd.denoisers.gaussian_mixture(process, WEIGHTS, means, stds)
    x = np.linspace(-1.5, 2.5, 23)

    def cdf(x):
        v = np.sqrt((0.99 * stds) ** 2 + 0.01**2)
        return np.sum(WEIGHTS * stats.norm.cdf((x - 0.99 * means[:, 0]) / v))

    exact = stats.norm.ppf([cdf(value) for value in x])
    latent = to_noise(denoiser, jnp.asarray(x)[:, None], rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(latent[:, 0], exact, atol=1e-6)
    back = to_data(denoiser, jnp.asarray(exact)[:, None], rtol=1e-8, atol=1e-8)
    inverse = [optimize.brentq(lambda y, q=q: stats.norm.ppf(cdf(y)) - q, -4, 5, xtol=1e-12) for q in exact]
    np.testing.assert_allclose(back[:, 0], inverse, atol=1e-6)


def test_fixed_steps_are_of_fourth_order(x64):
    process = P.flow(t_min=0.01)  # no signal at the start: its prior is exact
    means, stds = _mixture(2)
    denoiser = jd.denoisers.gaussian_mixture(process, WEIGHTS, means, stds)
    x, errors = means + 0.2, []
    for steps in (60, 120):
        got = score(denoiser, jnp.asarray(x), times=jnp.asarray(grids.uniform_time(process, steps)))
        errors.append(np.max(np.abs(got.log_density - _log_mixture(process, process.t_min, x, means, stds))))
        assert int(got.evaluations) == 4 * steps
    assert np.log2(errors[0] / errors[1]) > 3.85, errors


# ------------------------------------------------------------------------------------------- bits


def test_dequantized_cells_lie_side_by_side_about_the_levels():
    levels = jnp.asarray(np.arange(256, dtype=np.uint8)[None].repeat(400, 0))
    x = np.asarray(dequantize(jax.random.key(0), levels))
    centre = np.arange(256) / 127.5 - 1  # what training sees
    within = (x - centre) * 127.5
    assert within.min() >= -0.5 - 1e-4
    assert within.max() <= 0.5 + 1e-4
    assert stats.kstest(within.ravel() + 0.5, "uniform").pvalue > 1e-3
    keys = jax.random.split(jax.random.key(1), 400)
    np.testing.assert_array_equal(dequantize(keys[::-1], levels)[::-1], dequantize(keys, levels))


def test_bits_of_gaussian_levels_against_quadrature():
    """Five levels of N(m, s^2): the mean over draws is the bound by quadrature, above the exact code length."""
    process, levels, mean, std = P.flow(), 5, 0.1, 0.5
    denoiser = jd.denoisers.gaussian(process, mean, std)
    images = jnp.asarray(np.arange(levels, dtype=np.uint8).repeat(2000)[:, None].repeat(3, 1))
    bits = jax.jit(bits_per_dimension, static_argnames=(*STATIC, "levels"))
    got = np.asarray(bits(jax.random.key(0), denoiser, images, levels=levels, times=jnp.asarray(_grid(process, 12))))
    assert got.shape == (levels * 2000,)
    width = 2 / (levels - 1)
    for level in range(levels):
        centre = 2 * level / (levels - 1) - 1
        cell = (centre - width / 2, centre + width / 2)
        bound = integrate.quad(lambda x: -stats.norm.logpdf(x, mean, std) / width, *cell)[0] / np.log(2) - np.log2(
            width
        )
        exact = -np.log2(stats.norm.cdf(cell[1], mean, std) - stats.norm.cdf(cell[0], mean, std))
        drawn = got[level * 2000 : (level + 1) * 2000]
        assert abs(drawn.mean() - bound) < 4 * drawn.std() / np.sqrt(2000) + 1e-3
        assert bound > exact


# ---------------------------------------------------------------------------------- wrong arguments


def test_wrong_arguments_are_named():
    denoiser = jd.denoisers.gaussian(P.flow())
    x = jnp.ones((2, 3))
    for error, match, call in (
        (ValueError, "divergence = 'trace'", lambda: log_density(denoiser, x, divergence="trace")),
        (ValueError, "probes = 'normal'", lambda: log_density(denoiser, x, probes="normal")),
        (ValueError, "probe_count = 0", lambda: log_density(denoiser, x, probe_count=0)),
        (ValueError, "key = None", lambda: log_density(denoiser, x, divergence="hutchinson")),
        (TypeError, "key = 3", lambda: log_density(denoiser, x, divergence="hutchinson", key=3)),
        (
            ValueError,
            r"key\.shape = \(5,\)",
            lambda: log_density(denoiser, x, divergence="hutchinson", key=jax.random.split(jax.random.key(0), 5)),
        ),
        (ValueError, "times = ", lambda: encode(denoiser, x, times=np.array([0.0, 1.0]))),
        (ValueError, "times", lambda: encode(denoiser, x, times=np.array([2.0, 0.5]))),
        (ValueError, r"times\.shape = \(1,\)", lambda: jax.jit(encode)(denoiser, x, times=jnp.ones(1))),
        (ValueError, "shapes of x = ", lambda: log_density(denoiser, 1.0)),
        (TypeError, r"images\.dtype = float32", lambda: bits_per_dimension(jax.random.key(0), denoiser, x)),
        (
            ValueError,
            r"levels of images = \(9, 9\); allowed are 0 to 8",
            lambda: dequantize(jax.random.key(0), np.full((1, 2), 9), levels=9),
        ),
        (ValueError, "levels = 1", lambda: dequantize(jax.random.key(0), np.zeros((1, 2), int), levels=1)),
    ):
        with pytest.raises(error, match=match):
            call()
