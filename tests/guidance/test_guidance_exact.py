"""Where guidance is exact: its estimates are those of a law in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import MEANS, PROCESSES, STDS, WEIGHTS, inner_times, mixture
from scipy import stats

import jaxdiff as jd
from jaxdiff import denoisers, guidance, trees

KEY = jax.random.key(0)


def _log_densities(process, x, t):
    """The log of weight times noisy density of each component of the mixture, `[components, batch]`."""
    alpha, sigma = (jnp.asarray(f(t)) for f in (process.alpha, process.sigma))
    variances = (alpha**2)[..., None] * STDS**2 + (sigma**2)[..., None]
    squares = jnp.sum((x[:, None] - jnp.reshape(alpha, (-1, 1, 1)) * MEANS) ** 2, axis=-1)
    return (jnp.log(WEIGHTS) - jnp.log(variances) - squares / (2 * variances)).T


def _points(process):
    """A point at each of a few times."""
    t = jnp.asarray(inner_times(process))
    size = process.alpha(t) + process.sigma(t)
    return jnp.asarray(np.random.default_rng(0).normal(size=(len(t), 2))) * size[:, None], t


def _assert_same(found, wanted, x, t):
    for one, other in zip(found(x, t), wanted(x, t), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-8 * float(jnp.max(jnp.abs(other))))


def test_classifier_guidance_of_a_mixture_is_its_component(process, x64):
    x, t = _points(process)
    for component in range(3):

        def log_prob(x, t, component=component):
            return jax.nn.log_softmax(_log_densities(process, x, t), axis=0)[component]

        found = guidance.classifier(mixture(process), log_prob, 1.0)
        _assert_same(found, denoisers.gaussian(process, MEANS[component], STDS[component]), x, t)


def test_a_mixture_of_denoisers_with_densities_is_the_denoiser_of_the_mixture(process, x64):
    x, t = _points(process)
    parts = [denoisers.gaussian(process, m, s) for m, s in zip(MEANS, STDS, strict=True)]
    densities = [lambda x, t, i=i: _log_densities(process, x, t)[i] for i in range(3)]
    _assert_same(guidance.mixture(parts, densities), mixture(process), x, t)


def test_a_linear_reward_tilts_a_gaussian(process, x64):
    """exp(scale a x) times N(m, s^2) is N(m + scale a s^2, s^2)."""
    x, t = _points(process)
    found = guidance.reward(denoisers.gaussian(process, 0.4, 0.7), lambda x0: x0 @ jnp.asarray([1.0, -2.0]), 1.5)
    wanted = denoisers.gaussian(process, 0.4 + 1.5 * 0.7**2 * np.asarray([1.0, -2.0]), 0.7)
    _assert_same(found, wanted, x, t)


def test_products_and_autoguidance_of_gaussians_of_one_width(process, x64):
    """A sum of differences moves the mean: `m_u + sum_i w_i (m_i - m_u)`. A negative weight leads away."""
    x, t = _points(process)
    of = {mean: denoisers.gaussian(process, mean, 0.6) for mean in (-1.0, 0.2, 0.9)}
    found = guidance.product([of[0.9], of[-1.0]], of[0.2], [2.0, -0.5])
    _assert_same(found, denoisers.gaussian(process, 0.2 + 2 * 0.7 - 0.5 * -1.2, 0.6), x, t)
    found = guidance.autoguidance(strong=of[0.9], weak=of[0.2], scale=3.0)
    _assert_same(found, denoisers.gaussian(process, 0.2 + 3 * 0.7, 0.6), x, t)


def test_unguided_rules_are_the_conditional_denoiser(x64):
    """With the numbers that mean no guidance, and where the noise or the signal is absent."""
    process = PROCESSES["flow"]
    x, t = jnp.asarray(np.random.default_rng(0).normal(size=(3, 2))), jnp.asarray([0.0, 0.5, 1.0])
    c, u = mixture(process), denoisers.gaussian(process)
    rules = {
        "apg": guidance.apg(c, u, 1.0),
        "cfg_zero_star": guidance.cfg_zero_star(c, u, 1.0),
        "rescale": guidance.rescale(guidance.classifier_free(c, u, 1.0), 0.7, prediction="x0"),
        "static_threshold": guidance.static_threshold(c, -99.0, 99.0),
        "dynamic_threshold": guidance.dynamic_threshold(c, 99.0, 99.0),
        "classifier": guidance.classifier(c, lambda x, t: trees.mean_square(x), 0.0),
        "reward": guidance.reward(c, trees.mean_square, 0.0),
    }
    for name, found in rules.items():
        for one, other in zip(found(x, t), c(x, t), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_plain_guidance_of_a_mixture_is_not_the_tilted_density(scale, x64):
    """The ODE of a law in one dimension keeps the quantiles, so that 2,000 quantiles of the noise show the law of the
    samples. Guidance towards one of two modes should give `p_u^(1 - w) p_c^w`. It is exact for w = 1 alone.
    """
    process = jd.processes.edm(sigma_max=40.0)
    weights, means, stds = [0.5, 0.5], [[-1.0], [1.0]], [0.5, 0.5]
    u = denoisers.gaussian_mixture(process, weights, means, stds)
    guided = guidance.classifier_free(denoisers.gaussian(process, 1.0, 0.5), u, scale)
    tableau = jd.solvers.heun(process, jd.grids.karras(process, 60))
    quantiles = (np.arange(2000) + 0.5) / 2000
    noise = jnp.asarray(40.0 * stats.norm.ppf(quantiles))[:, None]
    found = np.asarray(jd.sample(KEY, guided, noise, tableau))[:, 0]
    grid = np.linspace(-4, 6, 20001)
    conditional = stats.norm.pdf(grid, 1, 0.5)
    density = conditional**scale * (0.5 * conditional + 0.5 * stats.norm.pdf(grid, -1, 0.5)) ** (1 - scale)
    wanted = np.interp(quantiles, np.cumsum(density) / density.sum(), grid)
    worst = np.max(np.abs(found - wanted)[20:-20])
    assert worst < 0.05 if scale == 1 else worst > 0.2
