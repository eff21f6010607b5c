"""A training loop of one's own, in ten lines: it learns a known answer, and goes on to the bit after an interruption."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdiff as jd
from jaxdiff.averages import half_life

MEAN, STD, STEPS = np.array([1.0, -2.0], np.float32), 0.5, 300


def _network(params, x, sigma):
    """The optimal output for data N(mean, STD^2) with EDM's preconditioning: only the mean is to be learned.

    `F = c (sigma x0/s - s eps)` with the exact posterior means is `c sigma mean/s`, whatever x is.
    """
    return params["mean"] * (sigma / (STD * jnp.sqrt(STD**2 + sigma**2)))[:, None] + 0 * x


def _batch(i):
    return {"x": MEAN + STD * np.random.default_rng(i).normal(size=(64, 2)).astype(np.float32)}


def test_ten_lines_learn_a_gaussian_and_go_on_to_the_bit(tmp_path):
    process, parametrization = jd.processes.edm(), jd.parametrizations.edm(STD, time_input="raw")
    params = {"mean": jnp.zeros(2)}

    def train(directory, steps):
        objective = jd.objectives.denoising(process, parametrization, _network)
        optimizer, averages = optax.adam(0.05), jd.training.ema(0.99)
        step = jax.jit(jd.training.make_step(objective, optimizer, averages), donate_argnums=0)
        state = jd.training.initial_state(params, optimizer, jax.random.key(0), averages)
        with jd.Checkpoints(directory) as checkpoints:
            if checkpoints.steps():
                state = checkpoints.restore(state).state
            for i in range(int(state.step), steps):
                state, _ = step(state, _batch(i))
            checkpoints.save(steps, state)
        return state

    whole = train(tmp_path / "whole", STEPS)
    train(tmp_path / "cut", 100)
    chex.assert_trees_all_equal(train(tmp_path / "cut", STEPS), whole)

    # The average of the last 100 steps of 64 examples; a step's gradient has the noise of x0 and of eps.
    np.testing.assert_allclose(whole.ema["ema"]["mean"], MEAN, atol=0.05)
    denoiser = jd.denoisers.from_network(process, parametrization, _network, whole.ema["ema"])
    samples = np.asarray(jd.generate(jax.random.key(1), denoiser, (4000, 2)))
    np.testing.assert_allclose(samples.mean(axis=0), MEAN, atol=0.05 + 4 * STD / np.sqrt(4000))
    np.testing.assert_allclose(samples.std(axis=0), STD, rtol=0.02 + 4 / np.sqrt(8000))


def test_ema_is_the_rule_under_its_name():
    rules = jd.training.ema(0.9, "short") | jd.training.ema(half_life(1000, 10, ramp=None), "long")
    assert list(rules) == ["short", "long"]
    np.testing.assert_allclose([rules["short"](n) for n in (1, 1000)], [2 / 11, 0.9], rtol=1e-6)
    np.testing.assert_allclose(rules["long"](7), 0.5**0.01, rtol=1e-6)
    with pytest.raises(ValueError, match=r"decay = 1; allowed are numbers from 0 to below 1"):
        jd.training.ema(1)
