"""The step against hand computations: gradients, averages, parts and skipped steps."""

import dataclasses
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdiff as jd
from jaxdiff.networks import MLP
from jaxdiff.objectives import denoising
from jaxdiff.training.state import initial_state
from jaxdiff.training.step import make_step, repeated
from jaxdiff.trees import BatchKey


@pytest.fixture(scope="module")
def training():
    """A network, its objective and a batch of labelled points."""
    process, network = jd.processes.vp_cosine(), MLP(width=8, num_blocks=1, num_classes=3)
    objective = denoising(process, jd.parametrizations.v(), network.apply, null=3, dropout=0.2)
    rng = np.random.default_rng(0)
    batch = {"x": rng.standard_normal((16, 2)).astype(np.float32), "cond": rng.integers(3, size=16).astype(np.int32)}
    params = jax.jit(network.init)(jax.random.key(0), batch["x"], jnp.zeros(16), batch["cond"])
    # The last layers start at zero, which would leave most of the gradient zero too.
    params = jax.tree.map(lambda p: p + 0.1 * rng.standard_normal(p.shape).astype(np.float32), params)
    return objective, params, batch


def test_a_step_is_a_step_down_the_gradient_of_the_mean_loss(training):
    objective, params, batch = training
    optimizer, rules = optax.sgd(0.5), {"slow": lambda n: 0.9 + 0 * n, "last": lambda n: 0 * n}
    state = dataclasses.replace(initial_state(params, optimizer, jax.random.key(7), rules), step=jnp.asarray(41))
    step = jax.jit(make_step(objective, optimizer, rules))
    after, metrics = step(state, batch)

    def loss(params):
        losses, details = objective(params, jax.random.fold_in(jax.random.key(7), 41), batch)
        return jnp.mean(losses), jnp.mean(details["mse"])

    (mean, mse), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    norm = math.sqrt(sum(float(np.sum(np.square(leaf, dtype=np.float64))) for leaf in jax.tree.leaves(gradient)))
    assert norm > 0.1  # far above the tolerance of the parameters below
    for name, expected in (("loss", mean), ("mse", mse), ("grad_norm", norm)):
        np.testing.assert_allclose(metrics[name], expected, rtol=1e-5)
    expected = {
        "params": jax.tree.map(lambda p, g: p - 0.5 * g, params, gradient),
        "slow": jax.tree.map(lambda p, g: p - 0.1 * 0.5 * g, params, gradient),
    }
    chex.assert_trees_all_close({"params": after.params, "slow": after.ema["slow"]}, expected, rtol=1e-7, atol=1e-6)
    chex.assert_trees_all_equal(after.ema["last"], after.params)
    assert int(after.step) == 42
    assert after.key == state.key

    again, _ = step(state, batch)
    chex.assert_trees_all_equal(again.params, after.params)
    other, _ = step(dataclasses.replace(state, step=jnp.asarray(42)), batch)  # another step, other noise
    assert not np.array_equal(jax.tree.leaves(other.params)[0], jax.tree.leaves(after.params)[0])


@pytest.fixture(scope="module")
def adam(training):
    """The arguments of `make_step`, a state, a batch, and the compiled step."""
    objective, params, batch = training
    optimizer, rules = optax.adam(0.01), {"slow": lambda n: 0.9 + 0 * n}
    arguments = (objective, optimizer, rules)
    state = initial_state(params, optimizer, jax.random.key(3), rules)
    return arguments, state, batch, jax.jit(make_step(*arguments))


@pytest.mark.parametrize("parts", [4, 16])
def test_a_batch_in_parts_makes_the_step_of_the_whole_batch(adam, parts):
    """Each example has the same noise, time and dropped label."""
    arguments, state, batch, step = adam
    whole, metrics = step(state, batch)
    pieces, found = jax.jit(make_step(*arguments, accumulate=parts))(state, batch)
    chex.assert_trees_all_close(found, metrics, rtol=1e-5)
    chex.assert_trees_all_close(pieces.opt_state, whole.opt_state, rtol=1e-4, atol=1e-7)


def test_parts_must_divide_the_batch(adam):
    arguments, state, batch, _ = adam
    with pytest.raises(ValueError, match="accumulate = 3; allowed are divisors of the local batch size 16"):
        make_step(*arguments, accumulate=3)(state, batch)


def test_several_steps_per_call_are_those_steps(adam):
    arguments, state, batch, step = adam
    batches = jax.tree.map(lambda leaf: np.stack([leaf, leaf[::-1], leaf + 0]), batch)
    together, metrics = jax.jit(repeated(make_step(*arguments)))(state, batches)
    assert metrics["loss"].shape == (3,)
    for i in range(3):
        state, each = step(state, jax.tree.map(lambda leaf, i=i: leaf[i], batches))
        np.testing.assert_allclose(metrics["loss"][i], each["loss"], rtol=1e-5)
    assert int(together.step) == int(state.step) == 3
    chex.assert_trees_all_close(together.params, state.params, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_step_that_is_not_finite_changes_only_the_counts(adam, bad):
    _, state, batch, step = adam
    state, metrics = step(state, batch)
    assert (int(metrics["skipped"]), int(state.skipped), int(state.consecutive_skips)) == (0, 0, 0)
    spoilt = {**batch, "x": batch["x"].copy()}
    spoilt["x"][5, 1] = bad
    for count in (1, 2):
        after, metrics = step(state, spoilt)
        for name in ("params", "opt_state", "ema"):
            chex.assert_trees_all_equal(getattr(after, name), getattr(state, name))
        assert int(after.step) == int(state.step) + 1
        assert (int(metrics["skipped"]), int(metrics["consecutive_skips"])) == (1, count)
        assert (int(after.skipped), int(after.consecutive_skips)) == (count, count)
        state = after
    after, metrics = step(state, batch)
    assert (int(after.skipped), int(after.consecutive_skips), int(metrics["skipped"])) == (2, 0, 0)
    assert not np.array_equal(jax.tree.leaves(after.params)[0], jax.tree.leaves(state.params)[0])


def test_a_step_with_a_finite_loss_and_an_infinite_gradient_is_skipped():
    """The loss is a square root at 0."""
    state = initial_state({"w": jnp.zeros(2)}, optax.sgd(1.0), jax.random.key(0), ())
    step = make_step(lambda params, key, batch: (jnp.sqrt(params["w"] * batch["x"]), {}), optax.sgd(1.0), {})
    after, metrics = step(state, {"x": jnp.ones(2)})
    assert float(metrics["loss"]) == 0.0
    assert int(metrics["skipped"]) == 1
    np.testing.assert_array_equal(after.params["w"], np.zeros(2))


def test_an_objective_that_sees_a_part_of_the_batch_knows_which_part():
    seen = []

    def objective(params, key, batch):
        seen.append(key)
        return params["w"] * batch["x"], {}

    state = initial_state({"w": jnp.ones(())}, optax.sgd(1.0), jax.random.key(0), ())
    batch = {"x": jnp.arange(4.0)}
    make_step(objective, optax.sgd(1.0), {})(state, batch)
    assert seen.pop().shape == ()
    places = lambda count: (3 * count + jnp.arange(count), 8 * count)  # noqa: E731 (the fourth device of eight)
    make_step(objective, optax.sgd(1.0), {}, places=places)(state, batch)
    key = seen.pop()
    assert isinstance(key, BatchKey)
    np.testing.assert_array_equal(key.index, [12, 13, 14, 15])
    assert key.size == 32
