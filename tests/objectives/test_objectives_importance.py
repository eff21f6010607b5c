"""Objectives with importance sampling: they draw where their own losses are large, and their mean stays the same."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import denoisers, parametrizations, processes
from jaxdiff.components import choose
from jaxdiff.objectives import Context, CrossEntropy, Hybrid, times

KEY = jax.random.key(0)
STEPS, BATCH = 4, 64
PROCESS = processes.vp_discrete(schedule="cosine", steps=STEPS)
IMPORTANCE = choose(times.importance, history=2000)


def hybrid():
    """A denoiser that takes noisy data for clean ones, with variances."""

    def apply(params, x, time):
        return jnp.concatenate([x, 0.4 * jnp.tanh(x)], axis=-1)

    target = parametrizations.x0()

    def denoiser(params, cond, keys):
        return denoisers.from_network_with_variance(PROCESS, target, apply, params)

    settings = types.SimpleNamespace(learned_variance=True)
    model = types.SimpleNamespace(
        process=lambda params: PROCESS, parametrization=target, denoiser=denoiser, settings=settings
    )
    return Hybrid(times=IMPORTANCE, weight=0.1, levels=None), model, {"x": jax.random.normal(KEY, (BATCH, 3))}


def classifier():
    """Logits that are better for less noise."""
    model = types.SimpleNamespace(process=PROCESS, logits=lambda params, x, t, keys: jnp.concatenate([x, -x], axis=-1))
    label = jnp.arange(BATCH) % 2
    return CrossEntropy(times=IMPORTANCE), model, {"x": 1.0 - 2.0 * label[:, None], "label": label}


@pytest.mark.parametrize("made", [hybrid, classifier])
def test_an_objective_learns_where_its_losses_are_large(made):
    """The probabilities are those of equation 18 of iDDPM, and the mean of the weighted losses that of equal ones."""
    objective, model, batch = made()
    assert objective.couples
    loss = objective.make(model)
    step = jax.jit(lambda key, extra: loss({}, key, batch, Context(0, {}, None, extra)))
    extra = objective.extra(model)
    for key in jax.random.split(KEY, 250):
        extra = step(key, extra).updates

    @jax.jit
    def at(index):
        """The losses at one index."""

        def fixed(process):
            return lambda key, process, batch: (jnp.full(batch, index), jnp.ones(batch))

        alone = dataclasses.replace(objective, times=fixed).make(model)
        keys = jax.random.split(jax.random.key(1), 100)
        return jax.vmap(lambda key: alone({}, key, batch, Context()).losses)(keys)

    losses = [np.asarray(at(float(index))) for index in range(STEPS)]
    size = np.asarray([np.sqrt(np.mean(of**2)) for of in losses])
    found = np.asarray(extra["times"].probabilities())
    np.testing.assert_allclose(found, 0.999 * size / size.sum() + 0.001 / STEPS, rtol=0.1)
    assert found.max() > 2 * found.min()

    again = np.asarray([step(key, extra).losses.mean() for key in jax.random.split(jax.random.key(2), 200)])
    assert abs(again.mean() - np.mean(losses)) < 5 * again.std() / len(again) ** 0.5
    # Without the weights the mean would be another one by far.
    assert abs(np.sum(found * [of.mean() for of in losses]) - np.mean(losses)) > 20 * again.std() / len(again) ** 0.5
