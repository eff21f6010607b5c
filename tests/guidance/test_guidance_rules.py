"""Every rule against a NumPy reading of its paper, and what all rules have in common."""

import dataclasses
import itertools
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import PROCESSES
from guidance.known import Known, dot, drawn, estimates, rows, times_of

import jaxdiff as jd
from jaxdiff import denoisers, guidance, trees
from jaxdiff.guidance import schedules

KEY = jax.random.key(0)
SHAPE = (3, 2, 4)
C, U, X = (drawn(SHAPE, seed) for seed in range(3))


def _pair(process):
    return Known(process, jnp.asarray(C)), Known(process, jnp.asarray(U))


# Rules of a conditional and an unconditional denoiser and of one number.
RULES = {
    "classifier_free": guidance.classifier_free,
    "schedule": lambda c, u, n: guidance.classifier_free(c, u, schedules.Linear(n, 0.5)),
    "cfg_plus_plus": guidance.cfg_plus_plus,
    "apg": lambda c, u, n: guidance.apg(c, u, 3.0, eta=0.3, norm=n),
    "cfg_zero_star": lambda c, u, n: guidance.cfg_zero_star(c, u, n, zero_init=0.1),
    "autoguidance": guidance.autoguidance,
    "product": lambda c, u, n: guidance.product([c, u], denoisers.gaussian(c.process), [n, -0.5]),
    "instruct_pix2pix": lambda c, u, n: guidance.instruct_pix2pix(c, u, denoisers.gaussian(c.process), 3.0, n),
    "mixture": lambda c, u, n: guidance.mixture([c, u], [_Level(n), _Level(jnp.asarray(0.1))]),
    "classifier": lambda c, u, n: guidance.classifier(c, _Level(n), 1.5),
    "reward": lambda c, u, n: guidance.reward(c, trees.mean_square, n),
    "rescale": lambda c, u, n: guidance.rescale(guidance.classifier_free(c, u, 3.0), n),
    "static_threshold": lambda c, u, n: guidance.static_threshold(c, -n, n),
    "dynamic_threshold": lambda c, u, n: guidance.dynamic_threshold(c, 40.0, n),
    "interval": lambda c, u, n: guidance.interval(guidance.classifier_free(c, u, 3.0), c, 1.05 * n, 2.0),
    "nested": lambda c, u, n: guidance.static_threshold(guidance.reward(guidance.apg(c, u, n), trees.std, 0.1), -2, 2),
}


@trees.register
@dataclasses.dataclass(frozen=True)
class _Level:
    """A log-density that is quadratic in x."""

    n: Any

    def __call__(self, x, t):
        return -self.n * trees.mean_square(x)


@pytest.mark.parametrize("name", RULES)
def test_every_rule_is_compiled_once_and_mapped_and_takes_any_pytree(name, x64):
    """Another number compiles nothing; `s` reaches the denoisers; an example sees no other example."""
    process, make = PROCESSES["vp_linear"], RULES[name]
    data = [{"a": jnp.asarray(d), "b": jnp.asarray(d[:, 0])} for d in (C, U, X)]
    x, t, s = data[2], jnp.asarray([0.2, 0.5, 0.9]), 0.3

    def guided(n, later=0.0, rows=slice(None)):
        pair = (jax.tree.map(lambda leaf: leaf[rows] + later, d) for d in data[:2])
        return make(*(Known(process, d) for d in pair), n)

    traces = []

    @jax.jit
    def run(whole, parts, moved):
        traces.append(1)
        alone = [part(jax.tree.map(lambda v, i=i: v[i : i + 1], x), t[i]) for i, part in enumerate(parts)]
        alone = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *alone)
        return whole(x, t), alone, whole(x, t, s), moved(x, t)

    numbers = jnp.asarray([0.4, 0.7])
    found = [run(guided(n), [guided(n, rows=slice(i, i + 1)) for i in range(3)], guided(n, s)) for n in numbers]
    assert len(traces) == 1
    for together, alone, later, moved in found:
        chex.assert_trees_all_close(together, alone, rtol=1e-9, atol=1e-12)
        chex.assert_trees_all_close(later, moved, rtol=1e-9, atol=1e-12)
        assert not np.allclose(later.x0["a"], together.x0["a"])
    assert not np.allclose(found[0][0].x0["a"], found[1][0].x0["a"])
    mapped = jax.jit(jax.vmap(lambda n: guided(n)(x, t)))(numbers)
    chex.assert_trees_all_close(
        mapped, jax.tree.map(lambda *v: jnp.stack(v), *(f[0] for f in found)), rtol=1e-9, atol=1e-12
    )
    denoiser = guided(numbers[0])
    assert denoiser.process == process
    assert denoisers.is_consistent(denoiser) == (name != "cfg_plus_plus")
    if name != "cfg_plus_plus":
        chex.assert_trees_all_close(jd.corrupt(process, *found[0][0], t), x, rtol=1e-9, atol=1e-12)


def _apg(c, u, scale, eta, norm, momentum, before):
    """Algorithm 1 of Sadat et al. 2024, on data."""
    total = c - u + momentum * before
    length = rows(np.sqrt(dot(total, total)), c)
    d = total * np.minimum(1, norm / length)
    unit = c / rows(np.sqrt(dot(c, c)), c)
    parallel = rows(dot(d, unit), c) * unit
    return c + (scale - 1) * (d - parallel + eta * parallel), total


@pytest.mark.parametrize("momentum", [0.0, -0.6])
def test_apg_is_that_of_the_paper_in_every_step(momentum, x64):
    process, options = PROCESSES["flow"], {"eta": 0.4, "norm": 2.5, "momentum": momentum}
    times = times_of(process, 4)
    x, before = X, 0.0
    for t, s in itertools.pairwise(times):
        c, u = (estimates(process, data, x, t)[0] for data in (C, U))
        x0, before = _apg(c, u, 3.0, before=before, **options)
        x = process.alpha(s) * x0 + process.sigma(s) * (x - process.alpha(t) * x0) / process.sigma(t)
    guided, tableau = guidance.apg(*_pair(process), 3.0, **options), jd.solvers.ddim(process, times)
    np.testing.assert_allclose(jd.sample(KEY, guided, jnp.asarray(X), tableau), x, rtol=1e-10, atol=1e-12)
    if momentum:
        # The memory goes through the wrappers, and nothing but a sampler calls such a denoiser.
        wrapped = guidance.static_threshold(guidance.reward(guidance.rescale(guided, 0.0), trees.std, 0.0), -99, 99)
        wrapped = guidance.interval(wrapped, wrapped, 0.0, np.inf)
        found = jd.sample(KEY, wrapped, jnp.asarray(X), tableau)
        np.testing.assert_allclose(found, x, rtol=1e-10, atol=1e-12)
        for denoiser in (guided, wrapped):
            with pytest.raises(ValueError, match="is called by samplers alone"):
                denoiser(jnp.asarray(X), 0.5)


def test_apg_without_projection_is_classifier_free_guidance(x64):
    pair = _pair(PROCESSES["vp_cosine"])
    one, other = guidance.apg(*pair, 4.0, eta=1.0), guidance.classifier_free(*pair, 4.0)
    chex.assert_trees_all_close(one(jnp.asarray(X), 0.3), other(jnp.asarray(X), 0.3), rtol=1e-10)


def test_cfg_plus_plus_is_that_of_the_paper_and_is_renoised_alone(x64):
    process, scale = PROCESSES["vp_linear"], 0.6
    times = times_of(process, 4)
    x = X
    for t, s in itertools.pairwise(times):
        c, u = (estimates(process, data, x, t)[1] for data in (C, U))
        x0 = (x - process.sigma(t) * (u + scale * (c - u))) / process.alpha(t)
        x = process.alpha(s) * x0 + process.sigma(s) * u
    guided = guidance.cfg_plus_plus(*_pair(process), scale)
    found = jd.sample(KEY, guided, jnp.asarray(X), jd.solvers.renoise(process, times))
    np.testing.assert_allclose(found, x, rtol=1e-9, atol=1e-12)
    clipped = guidance.static_threshold(guided, -9.0, 9.0)
    np.testing.assert_allclose(clipped(jnp.asarray(X), 0.5).eps, guided(jnp.asarray(X), 0.5).eps)
    limited = guidance.interval(guided, guided.sources.denoisers[0], 0.0, 1.0)
    for denoiser in (guided, clipped, limited):
        with pytest.raises(ValueError, match="allowed are denoisers with x = alpha x0"):
            jd.sample(KEY, denoiser, jnp.asarray(X), jd.solvers.ddim(process, times))
    with pytest.raises(ValueError, match="guided = 'a pair that is not consistent'"):
        guidance.rescale(guided)


def test_cfg_zero_star_is_that_of_the_paper(x64):
    """Euler's method on flow, whose first step out of four stays where it is."""
    process, scale = PROCESSES["flow"], 3.0
    times = jd.grids.uniform_time(process, 4)
    x = X
    for i, (t, s) in enumerate(itertools.pairwise(times)):
        c, u = (np.subtract(*estimates(process, data, x, t)[::-1]) for data in (C, U))
        best = rows(dot(c, u) / (dot(u, u) + 1e-8), u)
        x = x + (s - t) * (best * u + scale * (c - best * u)) * (i >= 1)
    guided = guidance.cfg_zero_star(*_pair(process), scale, zero_init=0.5 / 4)
    found = jd.sample(KEY, guided, jnp.asarray(X), jd.solvers.ddim(process, times))
    np.testing.assert_allclose(found, x, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("prediction", ["x0", "eps", "v", "velocity"])
def test_rescaled_guidance_is_that_of_the_paper(prediction, x64):
    process, t, factor = PROCESSES["flow"], 0.4, 0.7
    alpha, sigma = process.alpha(t), process.sigma(t)
    p, q = {"x0": (1, 0), "eps": (0, 1), "v": (-sigma, alpha), "velocity": (-1, 1)}[prediction]
    c, u = (sum(k * side for k, side in zip((p, q), estimates(process, d, X, t), strict=True)) for d in (C, U))
    guided = u + 3.0 * (c - u)
    spread = [value.reshape(3, -1).std(axis=1, ddof=1) for value in (c, guided)]
    want = factor * guided * rows(spread[0] / spread[1], guided) + (1 - factor) * guided
    found = guidance.rescale(guidance.classifier_free(*_pair(process), 3.0), factor, prediction=prediction)
    estimate = found(jnp.asarray(X), t)
    np.testing.assert_allclose(p * estimate.x0 + q * estimate.eps, want, rtol=1e-10)


def test_thresholds_are_those_of_the_paper(x64):
    process, t = PROCESSES["vp_cosine"], 0.8
    x0 = estimates(process, C, X, t)[0]
    denoiser, x = _pair(process)[0], jnp.asarray(X)
    static = guidance.static_threshold(denoiser, -0.5, 0.7)(x, t)
    np.testing.assert_allclose(static.x0, np.clip(x0, -0.5, 0.7), rtol=1e-10)
    size = rows(np.maximum(1.0, np.percentile(np.abs(x0).reshape(3, -1), 70, axis=1)), x0)
    assert ((size > 1).any(), (size == 1).any()) == (True, True)
    dynamic = guidance.dynamic_threshold(denoiser, 70)(x, t)
    np.testing.assert_allclose(dynamic.x0, np.clip(x0, -size, size) / size, rtol=1e-10)


@pytest.mark.parametrize("law", ["flow", "edm"])
def test_schedules_have_their_ends_and_their_middle(law, x64):
    process = PROCESSES[law]
    ends = jnp.asarray([process.t_max, (process.t_min + process.t_max) / 2, process.t_min])
    noise = process.sigma(ends) / np.hypot(process.alpha(ends), process.sigma(ends))
    wanted = {
        schedules.Linear(5.0, 1.0): [5, 3, 1],
        schedules.Cosine(5.0, 1.0): [5, 3, 1],
        schedules.Power(5.0, 1.0, 2.0): 1 + 4 * noise**2,
    }
    for schedule, want in wanted.items():
        np.testing.assert_allclose(schedule(process, ends), want, rtol=1e-12, atol=1e-12)
    pair, x = _pair(process), jnp.asarray(X)
    for i, t in enumerate(ends[:2]):
        found = guidance.classifier_free(*pair, schedules.Cosine(5.0, 1.0))(x, t)
        chex.assert_trees_all_close(found, guidance.classifier_free(*pair, [5.0, 3.0][i])(x, t), rtol=1e-12)
    own = guidance.classifier_free(*pair, lambda process, t: 2 * process.alpha(t))
    wanted = guidance.classifier_free(*pair, 2 * process.alpha(ends[1]))
    chex.assert_trees_all_close(jax.jit(lambda d: d(x, ends[1]))(own), wanted(x, ends[1]), rtol=1e-12)


WRONG = {
    "log_prob = 3; allowed are functions": lambda c, u: guidance.classifier(c, 3, 1.0),
    "function = 3; allowed are functions": lambda c, u: guidance.reward(c, 3, 1.0),
    "guided = Known.*allowed are denoisers of rules": lambda c, u: guidance.rescale(c),
    "prediction = 'V'; allowed are": lambda c, u: guidance.rescale(guidance.classifier_free(c, u, 2.0), prediction="V"),
    "number of scales = 2; allowed are 1": lambda c, u: guidance.product([c], u, [1.0, 2.0]),
    "number of log_densities = 0; allowed are 2": lambda c, u: guidance.mixture([c, u], []),
    r"shape of log_prob\(x, t\) = \(\)": lambda c, u: guidance.classifier(c, lambda x, t: jnp.sum(x), 1.0)(X, 0.5),
    "unguided.process = EDM": lambda c, u: guidance.interval(c, Known(PROCESSES["edm"], U), 0.0, 1.0),
    r"conditional\[1\].process = EDM": lambda c, u: guidance.product([c, Known(PROCESSES["edm"], U)], u, [1, 1]),
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_arguments_are_refused_by_name(message):
    pair = _pair(PROCESSES["vp_linear"])
    with pytest.raises((TypeError, ValueError), match=message):
        WRONG[message](*pair)
