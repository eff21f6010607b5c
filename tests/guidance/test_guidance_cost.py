"""What guidance evaluates: one call of the network for both conditions, and none of it outside of an interval."""

import dataclasses
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import PROCESSES
from devices import forced
from guidance.known import Known, drawn

import jaxdiff as jd
from jaxdiff import guidance, parametrizations, trees
from jaxdiff.guidance.both import of_conditions

KEY = jax.random.key(0)
PROCESS = PROCESSES["vp_cosine"]
X = drawn((4, 2))
CALLS = Counter()


@trees.register
@dataclasses.dataclass(frozen=True)
class Counted(Known):
    """A denoiser that counts its evaluations while it runs."""

    name: str = dataclasses.field(default="", metadata={"static": True})

    def __call__(self, x, t, s=None):
        jax.debug.callback(lambda name=self.name: CALLS.update([name]))
        return super().__call__(x, t, s)


@pytest.fixture
def pair():
    CALLS.clear()
    return Counted(PROCESS, jnp.ones(2), "c"), Counted(PROCESS, -jnp.ones(2), "u")


def test_an_interval_costs_two_evaluations_inside_and_one_outside(pair, x64):
    """The interval of noise levels is open below and closed above, and other ends compile nothing."""
    times = jd.grids.uniform_time(PROCESS, 10)
    tableau = jd.solvers.ddim(PROCESS, times)
    with np.errstate(divide="ignore"):
        levels = PROCESS.sigma(times[:-1]) / PROCESS.alpha(times[:-1])
    x, guided, traces = X, guidance.classifier_free(*pair, 3.0), []

    @jax.jit
    def run(denoiser):
        traces.append(1)
        return jd.sample(KEY, denoiser, jnp.asarray(X), tableau)

    for low, high in ((levels[7], levels[3]), (0.0, np.inf), (levels[0], np.inf), (levels[9], levels[8])):
        CALLS.clear()
        found = run(guidance.interval(guided, pair[0], low, high))
        jax.effects_barrier()
        inside = (levels > low) & (levels <= high)
        assert (CALLS["c"], CALLS["u"]) == (10, inside.sum())
        x = X
        for t, s, inner in zip(times[:-1], times[1:], inside, strict=True):
            estimate = guidance.classifier_free(*pair, 3.0 if inner else 1.0)(jnp.asarray(x), t)
            x = PROCESS.alpha(s) * estimate.x0 + PROCESS.sigma(s) * estimate.eps
        np.testing.assert_allclose(found, x, rtol=1e-9, atol=1e-12)
    assert len(traces) == 1


def test_a_time_for_each_example_is_in_the_interval_or_not(pair, x64):
    t = jnp.asarray([0.1, 0.4, 0.7, 0.9])
    ratio = PROCESS.sigma(t) / PROCESS.alpha(t)
    low, high = float(ratio[0]), float(ratio[2])
    guided = guidance.classifier_free(*pair, 3.0)
    each = guidance.interval(guided, pair[0], low, high)
    scales = jnp.asarray([1.0, 3.0, 3.0, 1.0])
    wanted = guidance.classifier_free(*pair, scales)(jnp.asarray(X), t)
    chex.assert_trees_all_close(each(jnp.asarray(X), t), wanted, rtol=1e-12)
    mapped = jax.vmap(lambda x, t: each(x[None], t))(jnp.asarray(X), t)
    chex.assert_trees_all_close(jax.tree.map(lambda v: v[:, 0], mapped), wanted, rtol=1e-12)


def _network(params, x, time, cond):
    """A network of two conditions: tokens with a mask, and a class."""
    CALLS[x.shape] += 1
    mask = cond["text"]["mask"][..., None]
    text = jnp.sum(cond["text"]["values"] * mask, axis=1) / jnp.sum(mask, axis=1)
    told = text + params[cond["label"]]
    return jnp.tanh(x * told + time[:, None])


@trees.register
@dataclasses.dataclass(frozen=True)
class DenoiserOf:
    """The denoiser of conditions, as models make it: its weights are leaves."""

    params: Any

    def __call__(self, cond):
        def apply(params, x, time, cond):
            return _network(params, x, time, trees.broadcast_examples(cond, len(x)))

        return jd.denoisers.from_network(PROCESS, parametrizations.v(), _Apply(apply), self.params, cond)


@dataclasses.dataclass(frozen=True)
class _Apply:
    """A function that is equal to all of its kind."""

    function: Any = dataclasses.field(compare=False)

    def __call__(self, *args):
        return self.function(*args)


def _cond(rows, seed):
    mask = np.ones((rows, 3), bool)
    mask[:, 2] = False
    return {
        "text": {"values": jnp.asarray(drawn((rows, 3, 2), seed)), "mask": jnp.asarray(mask)},
        "label": jnp.arange(rows) % 2,
    }


@pytest.mark.parametrize("rows", [(1, 1), (4, 1), (4, 4)])
@pytest.mark.parametrize("n", [2, 3])
def test_all_conditions_are_told_to_one_call(rows, n, x64):
    """The estimates are those of one call for each, whether conditions are those of all examples or of each."""
    conditions = [_cond(rows[0], 0), *(_cond(rows[1], seed) for seed in range(1, n))]
    model = DenoiserOf(jnp.asarray(drawn((2, 2), 9)))
    apart = of_conditions(lambda cond: model(cond), *conditions)
    together = of_conditions(model, *conditions)

    def composed(denoisers):
        return guidance.product(denoisers[:-1], denoisers[-1], [2.0, -0.7][: n - 1])

    run = jax.jit(lambda denoiser, x, t, s: denoiser(x, t, s))
    for t, s in ((0.3, None), (jnp.asarray([0.1, 0.3, 0.5, 0.9]), 0.1)):
        CALLS.clear()
        found = run(composed(together), jnp.asarray(X), t, s)
        assert list(CALLS.items()) == [((4 * n, 2), 1)]
        wanted = composed(apart)(jnp.asarray(X), t, s)
        chex.assert_trees_all_close(found, wanted, rtol=1e-12, atol=1e-14)
    alone = together[1](jnp.asarray(X), 0.3)
    chex.assert_trees_all_close(alone, apart[1](jnp.asarray(X), 0.3), rtol=1e-12, atol=1e-14)
    # Some of the rows, or all in another order, are evaluated one by one.
    other = guidance.classifier_free(together[1], together[0], 2.0)(jnp.asarray(X), 0.3)
    wanted = guidance.classifier_free(apart[1], apart[0], 2.0)(jnp.asarray(X), 0.3)
    chex.assert_trees_all_close(other, wanted, rtol=1e-12, atol=1e-14)


def test_conditions_of_another_number_are_refused():
    conditional, unconditional = of_conditions(DenoiserOf(jnp.ones((2, 2))), _cond(3, 0), _cond(1, 1))
    guided = guidance.classifier_free(conditional, unconditional, 2.0)
    with pytest.raises(ValueError, match="number of values of label = 3; allowed are 1 and 4"):
        guided(jnp.asarray(X), 0.3)


def test_both_takes_a_denoiser_that_is_told_both_conditions(x64):
    label, null = jnp.asarray([0, 1, 1, 0]), jnp.full(4, 1)
    text = _cond(1, 3)["text"]
    model = DenoiserOf(jnp.asarray(drawn((2, 2), 9)))
    conds = [{"text": jax.tree.map(lambda v: jnp.repeat(v, 4, 0), text), "label": one} for one in (label, null)]
    guided = guidance.classifier_free(*guidance.both(model(trees.interleave(conds))), 2.5)
    CALLS.clear()
    found = guided(jnp.asarray(X), 0.3)
    assert list(CALLS.items()) == [((8, 2), 1)]
    wanted = guidance.classifier_free(*map(model, conds), 2.5)(jnp.asarray(X), 0.3)
    chex.assert_trees_all_close(found, wanted, rtol=1e-12, atol=1e-14)
    with pytest.raises(ValueError, match="n = 0; allowed are integers of at least 1"):
        guidance.both(model(conds[0]), 0)


def test_both_conditions_of_an_example_stay_on_its_device():
    """A batched call over eight devices has no collectives; the same rules run within `shard_map`."""
    program = [sys.executable, str(Path(__file__).parent / "on_devices.py")]
    done = subprocess.run(program, env=forced(8), capture_output=True, text=True)
    assert done.stdout == "[]\nTrue\n", done.stderr[-2000:]
