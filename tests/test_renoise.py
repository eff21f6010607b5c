"""Renoising, denoisers whose pairs are not consistent, and denoisers with a memory."""

import dataclasses
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import PROCESSES
from moments import of_gaussian

import jaxdiff as jd
from jaxdiff import denoisers, trees
from jaxdiff.parametrizations import Estimate

KEY = jax.random.key(0)
FLOW = PROCESSES["flow"]
X = np.random.default_rng(0).normal(size=(3, 2))


@trees.register
@dataclasses.dataclass(frozen=True)
class Foreign:
    """The data of one denoiser with the noise of another, as in CFG++."""

    inner: Any
    other: Any
    consistent = False

    @property
    def process(self):
        return self.inner.process

    def __call__(self, x, t, s=None):
        return Estimate(self.inner(x, t).x0, self.other(x, t).eps)


@trees.register
@dataclasses.dataclass(frozen=True)
class Heavy:
    """A denoiser whose estimate of the data is the running sum `m <- x0 + momentum m`."""

    inner: Any
    momentum: Any

    @property
    def process(self):
        return self.inner.process

    def __call__(self, x, t, s=None):
        raise ValueError("a momentum needs a memory")

    def start(self, x):
        return jax.tree.map(jnp.zeros_like, x)

    def with_memory(self, memory, x, t):
        memory = trees.lincomb((1.0, self.momentum), (self.inner(x, t).x0, memory))
        alpha, sigma = self.process.alpha(t), self.process.sigma(t)
        return Estimate(memory, trees.lincomb((1 / sigma, -alpha / sigma), (x, memory))), memory


def _foreign(process):
    return Foreign(denoisers.gaussian(process, 0.5, 0.7), denoisers.gaussian(process))


def test_a_consistent_pair_is_renoised_as_ddim(process, x64):
    denoiser, times = denoisers.gaussian(process, 0.5, 0.7), jd.grids.uniform_log_snr(process, 5)
    for t in (times, times[1:]):
        x = X * process.sigma(t[0])
        renoised, solved = (jd.sample(KEY, denoiser, x, f(process, t)) for f in (jd.solvers.renoise, jd.solvers.ddim))
        np.testing.assert_allclose(renoised, solved, rtol=1e-9, atol=1e-9)


def test_fresh_noise_has_the_moments_of_the_formula(process):
    """Means and variances through all steps, by the recursion of the formula."""
    mean, std, eta = 0.5, 0.7, 0.6
    times = jd.grids.uniform_log_snr(process, 4)
    m = process.alpha(times[0]) * mean
    v = process.alpha(times[0]) ** 2 * std**2 + process.sigma(times[0]) ** 2
    for t, s in itertools.pairwise(times):
        alpha, sigma = process.alpha(t), process.sigma(t)
        total = alpha**2 * std**2 + sigma**2
        kept = np.sqrt(1 - eta**2) * process.sigma(s)
        gain = (process.alpha(s) * alpha * std**2 + kept * sigma) / total
        m, v = process.alpha(s) * mean + gain * (m - alpha * mean), gain**2 * v + (eta * process.sigma(s)) ** 2
    got = of_gaussian(jd.solvers.renoise(process, times, eta=eta), mean, std)
    np.testing.assert_allclose(got, (m, v), rtol=1e-9)


def test_the_noise_of_another_denoiser_is_used_as_it_is(x64):
    times = np.array([0.9, 0.5, 0.2, 0.0])
    x = jnp.asarray(X)
    got = jax.jit(jd.sample)(KEY, _foreign(FLOW), x, jd.solvers.renoise(FLOW, times))
    for t, s in itertools.pairwise(times):
        x = (1 - s) * _foreign(FLOW).inner(x, t).x0 + s * _foreign(FLOW).other(x, t).eps
    np.testing.assert_allclose(got, x, rtol=1e-12)


@pytest.mark.parametrize(
    "use",
    [
        lambda d: jd.sample(KEY, d, X, jd.solvers.ddim(FLOW, 3)),
        lambda d: jd.generate(KEY, d, (3, 2), steps=3),
        lambda d: jd.sample(KEY, d, X, jd.solvers.temperature(FLOW, 3, solver=jd.solvers.renoise, temperature=1.0)),
        lambda d: jd.sample(KEY, d, X, jd.solvers.chain(jd.solvers.renoise(FLOW, 3), jd.solvers.ddim(FLOW, 3))),
        lambda d: jd.sampling.predictor_corrector(
            KEY, d, X, jd.solvers.renoise(FLOW, 3), jd.sampling.annealed_langevin()
        ),
        lambda d: jd.sampling.adaptive(d, X),
        lambda d: jd.likelihood.log_density(d, X),
        lambda d: jd.likelihood.continuous_time(KEY, d, X),
        lambda d: jd.likelihood.discrete_time(KEY, d, X, jd.grids.uniform_time(FLOW, 3)),
        lambda d: denoisers.score(d, X, 0.5),
        lambda d: jd.grids.gits(FLOW, 3, d, X),
        lambda d: jd.sample(KEY, jd.guidance.classifier_free(d, d, 2.0), X, jd.solvers.ddim(FLOW, 3)),
    ],
)
def test_pairs_that_are_not_consistent_are_refused(use):
    with pytest.raises(ValueError, match=r"allowed are denoisers with x = alpha x0 \+ sigma eps"):
        use(_foreign(FLOW))


def test_pieces_and_chains_of_renoising_renoise():
    tableau = jd.solvers.renoise(FLOW, 4, eta=0.3)
    assert tableau[1:].form == jd.solvers.chain(tableau, tableau).form == "renoise"
    assert jd.solvers.churn(FLOW, 4, solver=jd.solvers.renoise, s_churn=1.0).form == "renoise"


def test_a_memory_goes_from_evaluation_to_evaluation(x64):
    """The whole, and the whole in pieces, against a loop in NumPy."""
    times, x, memory = np.array([0.9, 0.5, 0.2, 0.0]), X, 0.0
    denoiser = Heavy(denoisers.gaussian(FLOW, 0.5, 0.7), jnp.asarray(-0.4))
    tableau = jd.solvers.ddim(FLOW, times)
    got = jax.jit(jd.sample)(KEY, denoiser, X, tableau)
    state = jd.sampling.start(KEY, X, tableau)
    for piece in (tableau[:1], tableau[1:]):
        state = jd.sampling.advance(denoiser, state, piece)
    np.testing.assert_array_equal(jd.sampling.finish(state, tableau[1:]), jd.sample(KEY, denoiser, X, tableau))
    for t, s in itertools.pairwise(times):
        v = (1 - t) ** 2 * 0.49 + t**2
        memory = 0.5 + (1 - t) * 0.49 / v * (x - (1 - t) * 0.5) - 0.4 * memory
        x = (1 - s) * memory + s * (x - (1 - t) * memory) / t
    np.testing.assert_allclose(got, x, rtol=1e-12)


def test_another_denoiser_begins_without_memory():
    tableau, plain = jd.solvers.ddim(FLOW, 3), denoisers.gaussian(FLOW)
    state = jd.sampling.advance(Heavy(plain, 0.5), jd.sampling.start(KEY, X, tableau), tableau[:1])
    assert state.memory is not None
    assert jd.sampling.advance(plain, state, tableau[1:]).memory is None
