"""The step against hand computations: gradients, averages, mutable values, parts and skipped steps."""

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
from jaxdiff.networks.module import Spec
from jaxdiff.objectives import Loss, denoising
from jaxdiff.training.state import initial_state
from jaxdiff.training.step import make_step, repeated
from jaxdiff.trees import BatchKey


@pytest.fixture(scope="module")
def training():
    """A network, its objective and a batch of labelled points."""
    process, network = jd.processes.vp_cosine(), MLP(width=8, num_blocks=1).given({"label": Spec("class", (), 3)})
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
    step = make_step(lambda params, key, batch, context: (jnp.sqrt(params["w"] * batch["x"]), {}), optax.sgd(1.0), {})
    after, metrics = step(state, {"x": jnp.ones(2)})
    assert float(metrics["loss"]) == 0.0
    assert int(metrics["skipped"]) == 1
    np.testing.assert_array_equal(after.params["w"], np.zeros(2))


def test_an_objective_that_sees_a_part_of_the_batch_knows_which_part():
    seen = []

    def objective(params, key, batch, context):
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


# ---------------------------------------------------------------------------------- what an objective gets and gives


def moments(params, key, batch, context):
    """An objective with parameters of its own, mutable values, several metrics and a frozen model."""
    x = batch["x"]
    losses = (params["w"] * x - context.frozen["target"]) ** 2 + params["objective"]["u"] * x
    metrics = {"x": x, "square": x**2, "whole": context.extra["mean"]}
    return Loss(losses, metrics, {"mean": 0.5 * context.extra["mean"] + 0.5 * jnp.mean(x), "last": context.step})


@pytest.fixture(scope="module")
def own():
    """A state with parameters of the objective and mutable values, and what `make_step` takes."""
    optimizer, rules = optax.sgd(0.1), {"slow": lambda n: 0.75 + 0 * n}
    params = {"w": jnp.asarray(2.0), "objective": {"u": jnp.asarray(1.0)}}
    extra = {"mean": jnp.asarray(4.0), "last": jnp.asarray(-1)}
    state = initial_state(params, optimizer, jax.random.key(0), rules, extra)
    return (moments, optimizer, rules), state, {"x": jnp.asarray([0.5, 1.0, 1.5, 3.0])}, {"target": jnp.asarray(1.0)}


@pytest.mark.parametrize("parts", [1, 2])
def test_mutable_values_and_all_metrics_are_means_over_the_parts(own, parts):
    arguments, state, batch, frozen = own
    after, metrics = jax.jit(make_step(*arguments, accumulate=parts))(state, batch, frozen)
    x = np.asarray(batch["x"])
    np.testing.assert_allclose(after.extra["mean"], 0.5 * 4 + 0.5 * x.mean())
    # Both parts see the values from before the step.
    np.testing.assert_allclose([metrics["x"], metrics["square"], metrics["whole"]], [x.mean(), (x**2).mean(), 4.0])
    assert set(metrics) == {"loss", "x", "square", "whole", "grad_norm", "skipped", "consecutive_skips"}
    np.testing.assert_allclose(metrics["loss"], np.mean((2 * x - 1) ** 2 + x), rtol=1e-6)
    # The types stay, although a mean of integers is no integer.
    assert jax.tree.map(lambda leaf: leaf.dtype, after.extra) == jax.tree.map(lambda leaf: leaf.dtype, state.extra)
    assert int(after.extra["last"]) == 0
    np.testing.assert_allclose(after.params["w"], 2 - 0.1 * np.mean(2 * (2 * x - 1) * x), rtol=1e-6)
    np.testing.assert_allclose(after.params["objective"]["u"], 1 - 0.1 * x.mean(), rtol=1e-6)


def test_averages_do_not_cover_the_parameters_of_the_objective(own):
    arguments, state, batch, frozen = own
    assert jax.tree.structure(state.ema["slow"]) == jax.tree.structure({"w": 0})
    after, _ = jax.jit(make_step(*arguments))(state, batch, frozen)
    assert set(after.ema["slow"]) == {"w"}
    np.testing.assert_allclose(after.ema["slow"]["w"], 0.75 * 2 + 0.25 * after.params["w"], rtol=1e-6)
    assert float(after.params["w"]) != 2


def test_a_skipped_step_leaves_the_mutable_values_as_they_were(own):
    arguments, state, batch, frozen = own
    step = jax.jit(make_step(*arguments))
    state, _ = step(state, batch, frozen)
    after, metrics = step(state, {"x": batch["x"].at[2].set(jnp.nan)}, frozen)
    assert int(metrics["skipped"]) == 1
    for name in ("params", "ema", "extra"):
        chex.assert_trees_all_equal(getattr(after, name), getattr(state, name))


def test_an_objective_without_updates_leaves_the_mutable_values(own):
    (_, optimizer, rules), state, batch, _ = own
    step = make_step(lambda params, key, batch, context: Loss(params["w"] * batch["x"], {}), optimizer, rules)
    chex.assert_trees_all_equal(step(state, batch)[0].extra, state.extra)
    scalar = make_step(lambda params, key, batch, context: (params["w"] * jnp.mean(batch["x"]), {}), optimizer, rules)
    np.testing.assert_allclose(scalar(state, batch)[1]["loss"], 2 * 1.5)


def test_the_frozen_model_is_an_argument_and_gets_no_gradient(own):
    """One compiled step serves other weights of a teacher."""
    arguments, state, batch, _ = own
    step = jax.jit(chex.assert_max_traces(make_step(*arguments), n=1))
    x = np.asarray(batch["x"])
    for target in (1.0, -2.0):
        _, metrics = step(state, batch, {"target": jnp.asarray(target)})
        np.testing.assert_allclose(metrics["loss"], np.mean((2 * x - target) ** 2 + x), rtol=1e-6)
