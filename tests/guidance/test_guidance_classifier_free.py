"""Guidance compared with products of Gaussians, whose guided density is known in closed form."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import PROCESSES, inner_times, mixture

import jaxdiff as jd
from jaxdiff import denoisers
from jaxdiff.denoisers import score
from jaxdiff.guidance import classifier_free

KEY = jax.random.key(0)
COND, UNCOND = (0.8, 0.5), (-0.3, 0.9)  # mean and standard deviation of the data, with and without the condition


def _guided(process, scale):
    return classifier_free(denoisers.gaussian(process, *COND), denoisers.gaussian(process, *UNCOND), scale)


def _tilted(process, t, scale):
    """Mean and variance of the Gaussian `p_u(x_t)^(1 - w) p_c(x_t)^w`: its precision is the weighted sum of theirs."""
    alpha, sigma = process.alpha(t), process.sigma(t)
    (mean_c, var_c), (mean_u, var_u) = ((alpha * m, alpha**2 * s**2 + sigma**2) for m, s in (COND, UNCOND))
    precision = scale / var_c + (1 - scale) / var_u
    return (scale * mean_c / var_c + (1 - scale) * mean_u / var_u) / precision, 1 / precision


def test_guided_score_is_that_of_the_tilted_density(process, x64):
    ts = inner_times(process)
    x = np.random.default_rng(0).normal(size=(9, 2)) * (process.alpha(ts) + process.sigma(ts))[:, None]
    t = jnp.asarray(ts)
    for scale in (-0.5, 0.4, 1.7, 6.0):
        mean, variance = _tilted(process, ts, scale)
        want = -(x - mean[:, None]) / variance[:, None]
        guided = _guided(process, scale)
        got = guided(jnp.asarray(x), t)
        np.testing.assert_allclose(score(guided, jnp.asarray(x), t), want, rtol=1e-9, atol=1e-9 * np.max(abs(want)))
        np.testing.assert_allclose(got.eps, -process.sigma(ts)[:, None] * want, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(jd.corrupt(process, *got, t), x, rtol=1e-10, atol=1e-12)


def test_guided_sampling_ends_at_the_tilted_mean(x64):
    """For two Gaussians of the same width, guidance gives the denoiser of a third Gaussian of this width.

    Its mean is `m_u + w (m_c - m_u)`.
    """
    process, scale = PROCESSES["flow"], 3.0
    guided = classifier_free(denoisers.gaussian(process, 0.8, 0.5), denoisers.gaussian(process, -0.3, 0.5), scale)
    want = denoisers.gaussian(process, -0.3 + scale * 1.1, 0.5)
    x = jax.random.normal(KEY, (4, 2))
    tableau = jd.solvers.ddim(process, jd.grids.uniform_time(process, 20))
    np.testing.assert_allclose(jd.sample(KEY, guided, x, tableau), jd.sample(KEY, want, x, tableau), rtol=1e-9)


def test_scale_1_is_the_condition_and_0_is_none(process, x64):
    t = inner_times(process, 1, margin=0.3)[0]
    x = jnp.array([[0.3, -0.2]])
    cond, uncond = mixture(process), denoisers.gaussian(process, *UNCOND)
    for scale, want in ((1.0, cond), (0, uncond), (1, cond)):
        for got, expected in zip(classifier_free(cond, uncond, scale)(x, t), want(x, t), strict=True):
            np.testing.assert_array_equal(got, expected)


def test_one_scale_per_example(x64):
    process, scales = PROCESSES["vp_linear"], jnp.array([0.0, 1.0, 2.5, 7.3])
    x = jax.random.normal(KEY, (4, 3, 2))
    together = _guided(process, scales)(x, 0.4)
    for i, scale in enumerate(scales):
        alone = _guided(process, float(scale))(x[i : i + 1], 0.4)
        for got, want in zip(together, alone, strict=True):
            np.testing.assert_allclose(got[i], want[0], rtol=1e-12)


def test_pytree_data(x64):
    process = PROCESSES["edm"]
    x = {"a": jnp.ones((2, 3)), "b": -jnp.ones((2, 4, 4))}
    means = {"a": 0.5, "b": -1.0}, {"a": 0.0, "b": 0.3}
    std = {"a": 1.0, "b": 0.1}
    got = classifier_free(*(denoisers.gaussian(process, mean, std) for mean in means), 1.5)(x, 0.7)
    for k in x:
        alone = classifier_free(*(denoisers.gaussian(process, mean[k], std[k]) for mean in means), 1.5)(x[k], 0.7)
        np.testing.assert_allclose(got.x0[k], alone.x0, rtol=1e-12)
        np.testing.assert_allclose(got.eps[k], alone.eps, rtol=1e-12)


def test_scale_is_a_leaf_traced_mapped_and_differentiated(x64):
    """One compilation serves all scales, `d eps/d scale = eps_c - eps_u`, and guidance of guidance multiplies scales."""
    process, x, t = PROCESSES["vp_cosine"], jnp.array([[0.3, -0.7]]), 0.6
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(1)
    def run(denoiser):
        return denoiser(x, t).eps

    def eps(scale):
        return _guided(process, scale)(x, t).eps

    outs = [run(_guided(process, scale)) for scale in (0.0, 2.0, 5.5)]
    np.testing.assert_allclose(outs[2] - outs[0], 5.5 / 2 * (outs[1] - outs[0]), rtol=1e-12)
    mapped = jax.jit(jax.vmap(eps))(jnp.array([0.0, 2.0, 5.5]))
    np.testing.assert_allclose(mapped, jnp.stack(outs), rtol=1e-12)
    slope = jax.jit(jax.jacfwd(eps))(2.0)
    np.testing.assert_allclose(slope, run(_guided(process, 1.0)) - run(_guided(process, 0.0)), rtol=1e-12)
    twice = classifier_free(_guided(process, 2.0), denoisers.gaussian(process, *UNCOND), 3.0)
    np.testing.assert_allclose(twice(x, t).eps, run(_guided(process, 6.0)), rtol=1e-12)
    assert twice.process == process


def test_processes_that_are_traced_are_let_through():
    process, x = PROCESSES["vp_linear"], jnp.ones((1, 2))

    @jax.jit
    def run(inside):
        return classifier_free(denoisers.gaussian(inside, *COND), denoisers.gaussian(process, *UNCOND), 2.0)(x, 0.5).x0

    np.testing.assert_allclose(run(process), _guided(process, 2.0)(x, 0.5).x0, rtol=1e-5)
    # A process that was returned by jit has its numbers in float32, and still counts as the same process.
    once = jax.jit(lambda d: d)(denoisers.gaussian(process, *COND))
    classifier_free(once, denoisers.gaussian(process, *UNCOND), 2.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p, g: classifier_free(g(p), g(PROCESSES["flow"]), 2.0), r"unconditional\.process = Flow.*allowed are .*VPLinear"),
        (lambda p, g: classifier_free(g(p), g(jd.processes.vp_linear(beta_max=10.0)), 2.0), "beta_max=10.0.*beta_max=20.0"),
        (lambda p, g: classifier_free(g(jd.processes.vp_discrete()), g(jd.processes.vp_discrete(steps=100)), 2.0),
         r"unconditional\.process = VPDiscrete"),
        (lambda p, g: classifier_free(g(p), g(p), jnp.ones((2, 2))), r"scale\.shape = \(2, 2\)"),
        (lambda p, g: classifier_free(g(p), g(p), jnp.ones(3))(jnp.ones((1, 2)), 0.5), r"scale\.shape = \(3,\).*\(1,\)"),
    ],
)  # fmt: skip
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make(PROCESSES["vp_linear"], denoisers.gaussian)
