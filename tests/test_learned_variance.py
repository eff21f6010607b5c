"""The learned variance: its two ends are the two variances of DDPM, and between them it is that of iDDPM."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import PROCESSES

import jaxdiff as jd
from jaxdiff import grids, parametrizations, solvers
from jaxdiff.denoisers import from_network, from_network_with_variance
from jaxdiff.parametrizations import output_of
from jaxdiff.sampling.learned_variance import learned_variance

KEY = jax.random.key(0)
MEAN, STD = 1.5, 0.7
X0 = parametrizations.x0(parametrizations.raw_time_input)
draw = jax.jit(learned_variance)
sample = jax.jit(jd.sample)


@functools.cache  # one function object, so that programs compiled for it are shared
def _gaussian_network(name, parametrization):
    """The exact network of Gaussian data, with `params` as the second half of its channels."""
    process = PROCESSES[name]
    exact = jd.denoisers.gaussian(process, MEAN, STD)

    def apply(params, x, t):
        first = output_of(process, parametrization, exact(x, t), t)
        return jnp.concatenate([first, jnp.broadcast_to(params, first.shape)], axis=-1)

    return apply


def _denoiser(name, v):
    v = jnp.broadcast_to(jnp.asarray(v), (2,))
    return from_network_with_variance(PROCESSES[name], X0, _gaussian_network(name, X0), v)


def _to_clean(process, steps):
    return np.append(np.linspace(process.t_max, process.t_min, steps + 1)[:-1], process.t_clean)


@pytest.mark.parametrize(("name", "clean"), [("vp_discrete", False), ("flow", True)])
def test_its_ends_are_ddpm(name, clean):
    """v = -1 is the small variance and v = 1 the large variance, with the same keys: one, or one per example."""
    process = PROCESSES[name]
    noise = jd.prior_sample(KEY, process, (16, 2))
    scale = float(np.abs(noise).max())
    key, times = (KEY, _to_clean(process, 6)) if clean else (jax.random.split(KEY, 16), grids.uniform_time(process, 6))
    for v, variance in ((-1.0, "small"), (1.0, "large")):
        denoiser = _denoiser(name, v)
        got = draw(key, denoiser, noise, times)
        wanted = sample(key, denoiser, noise, solvers.ddpm(process, times, variance=variance))
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=2e-6 * scale)


def test_the_estimate_comes_from_the_first_half_of_the_channels():
    """It is the estimate of a plain denoiser whose network has the first half alone."""
    process, parametrization = PROCESSES["vp_linear"], parametrizations.v()

    def doubled(params, x, t):
        return jnp.concatenate([jnp.sin(x), jnp.cos(x)], axis=-1)

    denoiser = from_network_with_variance(process, parametrization, doubled, None)
    plain = from_network(process, parametrization, lambda params, x, t: jnp.sin(x), None)
    x, t = jax.random.normal(KEY, (4, 3, 2)), jnp.linspace(0.1, 0.9, 4)
    estimate, fraction = denoiser.with_fraction(x, t)
    for got in (denoiser(x, t), estimate):
        np.testing.assert_array_equal(got.x0, plain(x, t).x0)
        np.testing.assert_array_equal(got.eps, plain(x, t).eps)
    np.testing.assert_allclose(fraction, (np.cos(x) + 1) / 2, rtol=1e-6)


@pytest.mark.parametrize("v", [-1.0, -0.2, 0.6])
def test_moments_of_a_gaussian_are_those_of_the_recursion(v):
    """Each step maps mean and variance affinely (iDDPM, equation 15): a chain of 10 steps, the last without noise."""
    process, n = PROCESSES["vp_discrete"], 50_000
    times = grids.discrete(process, 10)
    noise = jax.random.normal(jax.random.key(1), (n, 2))
    got = np.asarray(draw(KEY, _denoiser("vp_discrete", v), noise, times), np.float64)
    m, variance = 0.0, 1.0
    for t, s in itertools.pairwise(times):
        at, st, a_s, ss = process.alpha(t), process.sigma(t), process.alpha(s), process.sigma(s)
        beta = 1 - (at / a_s) ** 2
        on_x0, on_x = a_s * beta / st**2, (at / a_s) * ss**2 / st**2
        gain = at * STD**2 / (at**2 * STD**2 + st**2)
        slope = on_x + on_x0 * gain
        small = beta * ss**2 / st**2
        f = (v + 1) / 2
        fresh = np.exp(f * np.log(beta) + (1 - f) * np.log(small)) if s != process.t_clean else 0.0
        m, variance = slope * m + on_x0 * (MEAN - gain * at * MEAN), slope**2 * variance + fresh
    np.testing.assert_allclose(got.mean(), m, atol=5 * np.sqrt(variance / (2 * n)))
    np.testing.assert_allclose(got.var(), variance, rtol=5 * np.sqrt(1 / n))


def test_each_coordinate_has_its_own_variance():
    """One step from a known point to a noisy end: each channel has its own spread."""
    process = PROCESSES["vp_linear"]
    times, n = np.array([0.5, 0.2]), 50_000
    v = jnp.array([-1.0, 0.3])
    got = np.asarray(draw(KEY, _denoiser("vp_linear", v), jnp.full((n, 2), 0.4), times))
    at, st, a_s, ss = process.alpha(0.5), process.sigma(0.5), process.alpha(0.2), process.sigma(0.2)
    large = st**2 - (at / a_s) ** 2 * ss**2
    small = large * ss**2 / st**2
    f = (np.asarray(v) + 1) / 2
    np.testing.assert_allclose(got.var(0), large**f * small ** (1 - f), rtol=5 * np.sqrt(2 / n))


def test_host_and_traced_times_agree():
    process = PROCESSES["vp_linear"]
    noise, denoiser = jd.prior_sample(KEY, process, (4, 2)), _denoiser("vp_linear", 0.1)
    times = grids.uniform_log_snr(process, 12)
    closed_over = jax.jit(lambda key, x: learned_variance(key, denoiser, x, times))(KEY, noise)
    np.testing.assert_allclose(draw(KEY, denoiser, noise, times), closed_over, rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "steps"), [("vp_discrete", 1000), ("flow", 1000), ("ve", 1000), ("flow", 1)])
def test_finite_in_float32(name, steps):
    process = PROCESSES[name]
    got = draw(KEY, _denoiser(name, 0.5), jd.prior_sample(KEY, process, (4, 2)), _to_clean(process, steps))
    assert got.dtype == jnp.float32
    assert np.isfinite(got).all()


def test_one_evaluation_a_step_pytrees_and_keys():
    process = PROCESSES["edm"]
    asked = []

    def apply(params, x, t):
        jax.debug.callback(lambda _: asked.append(None), t)
        return jax.tree.map(lambda leaf: jnp.concatenate([leaf * 0.1, leaf * 0], axis=-1), x)

    denoiser = from_network_with_variance(process, parametrizations.edm(), apply, None)
    x = {"a": jnp.ones((6, 3)), "b": jnp.ones((6, 2, 2, 1))}
    keys, times = jax.random.split(KEY, 6), grids.karras(process, 7)
    whole = learned_variance(keys, denoiser, x, times)
    jax.effects_barrier()
    assert len(asked) == 7
    part = learned_variance(keys[1:4], denoiser, jax.tree.map(lambda leaf: leaf[1:4], x), times)
    for name in x:
        np.testing.assert_allclose(part[name], whole[name][1:4], rtol=1e-5)
    assert not np.allclose(whole["a"][0], whole["a"][1])


X = jnp.ones((4, 2))
VP = PROCESSES["vp_linear"]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: learned_variance(KEY, jd.denoisers.gaussian(VP), X, [1.0, 0.5]), TypeError, "GaussianDenoiser.*from_network_with_variance"),
        (lambda: learned_variance(KEY, _denoiser("vp_linear", 0.0), X, [0.5, 1.0]), ValueError, "times = "),
        (lambda: learned_variance(KEY, _denoiser("vp_linear", 0.0), jnp.ones(4), [1.0, 0.5]), ValueError, r"x.shape = \(4,\); allowed are .*channels"),
        (lambda: from_network_with_variance(VP, parametrizations.v(), lambda p, x, t: x, None)(X, 0.5), ValueError, r"twice the channels.*\(4, 2\).*\(4, 4\)"),
        (lambda: from_network_with_variance(VP, parametrizations.v(), "unet", None), TypeError, "apply = 'unet'"),
        (lambda: from_network_with_variance(PROCESSES["flow"], parametrizations.eps(), lambda p, x, t: x, None), ValueError, "'eps'.*Flow"),
    ],
)  # fmt: skip
def test_wrong_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()
