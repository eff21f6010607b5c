"""The step against hand computations: gradients, averages, parts, skipped steps; settings as JSON."""

import dataclasses
import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdiff as jd
from jaxdiff.networks import MLP, Fourier, UNet
from jaxdiff.objectives import denoising
from jaxdiff.presets import NAMES, open_preset
from jaxdiff.runs.config import Config, DataConfig, SampleConfig, TrainConfig
from jaxdiff.runs.config_json import from_json, to_json
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

    key = jax.random.fold_in(jax.random.key(7), 41)
    losses, details = jax.jit(objective)(params, key, batch)
    gradient = jax.jit(jax.grad(lambda p: jnp.mean(objective(p, key, batch)[0])))(params)
    norm = math.sqrt(sum(float(np.sum(np.square(leaf, dtype=np.float64))) for leaf in jax.tree.leaves(gradient)))
    assert norm > 0.1
    np.testing.assert_allclose(metrics["loss"], np.mean(losses), rtol=1e-5)
    np.testing.assert_allclose(metrics["mse"], np.mean(details["mse"]), rtol=1e-5)
    np.testing.assert_allclose(metrics["grad_norm"], norm, rtol=1e-5)
    expected = {
        "params": jax.tree.map(lambda p, g: p - 0.5 * g, params, gradient),
        "slow": jax.tree.map(lambda p, g: p - 0.1 * 0.5 * g, params, gradient),
    }
    for name, found in (("params", after.params), ("slow", after.ema["slow"])):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), found, expected[name])
    jax.tree.map(np.testing.assert_array_equal, after.ema["last"], after.params)
    assert int(after.step) == 42
    assert after.key == state.key

    again, _ = step(state, batch)
    jax.tree.map(np.testing.assert_array_equal, again.params, after.params)
    other, _ = step(dataclasses.replace(state, step=jnp.asarray(42)), batch)  # another step, other noise
    assert not np.array_equal(jax.tree.leaves(other.params)[0], jax.tree.leaves(after.params)[0])


def assert_close(found, expected, **tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), found, expected)


@pytest.fixture
def adam(training):
    """A state, and what makes its steps."""
    objective, params, batch = training
    optimizer, rules = optax.adam(0.01), {"slow": lambda n: 0.9 + 0 * n}
    return objective, optimizer, rules, initial_state(params, optimizer, jax.random.key(3), rules), batch


@pytest.mark.parametrize("parts", [2, 4, 16])
def test_a_batch_in_parts_makes_the_step_of_the_whole(adam, parts):
    """With the same noise, times and dropped labels for each example, which is what could go wrong."""
    objective, optimizer, rules, state, batch = adam
    whole, metrics = jax.jit(make_step(objective, optimizer, rules))(state, batch)
    pieces, found = jax.jit(make_step(objective, optimizer, rules, accumulate=parts))(state, batch)
    assert_close(found, metrics, rtol=1e-5)
    assert_close(pieces.opt_state, whole.opt_state, rtol=1e-4, atol=1e-7)


def test_parts_must_divide_the_batch(adam):
    objective, optimizer, rules, state, batch = adam
    with pytest.raises(ValueError, match="accumulate = 3; allowed are divisors of the batch at hand, 16"):
        make_step(objective, optimizer, rules, accumulate=3)(state, batch)


def test_several_steps_a_call_are_those_steps(adam):
    objective, optimizer, rules, state, batch = adam
    step = make_step(objective, optimizer, rules)
    batches = jax.tree.map(lambda leaf: np.stack([leaf, leaf[::-1], leaf + 0]), batch)
    together, metrics = jax.jit(repeated(step))(state, batches)
    assert metrics["loss"].shape == (3,)
    one = jax.jit(step)
    for i in range(3):
        state, each = one(state, jax.tree.map(lambda leaf, i=i: leaf[i], batches))
        np.testing.assert_allclose(metrics["loss"][i], each["loss"], rtol=1e-5)
    assert int(together.step) == int(state.step) == 3
    assert_close(together.params, state.params, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_step_that_is_not_finite_changes_nothing_but_the_counts(adam, bad):
    objective, optimizer, rules, state, batch = adam
    step = jax.jit(make_step(objective, optimizer, rules))
    state, metrics = step(state, batch)
    assert (int(metrics["skipped"]), int(state.skipped), int(state.consecutive_skips)) == (0, 0, 0)
    spoilt = {**batch, "x": batch["x"].copy()}
    spoilt["x"][5, 1] = bad
    for count in (1, 2):
        after, metrics = step(state, spoilt)
        for name in ("params", "opt_state", "ema"):
            jax.tree.map(np.testing.assert_array_equal, getattr(after, name), getattr(state, name))
        assert int(after.step) == int(state.step) + 1
        assert (int(metrics["skipped"]), int(metrics["consecutive_skips"])) == (1, count)
        assert (int(after.skipped), int(after.consecutive_skips)) == (count, count)
        state = after
    after, metrics = step(state, batch)
    assert (int(after.skipped), int(after.consecutive_skips), int(metrics["skipped"])) == (2, 0, 0)
    assert not np.array_equal(jax.tree.leaves(after.params)[0], jax.tree.leaves(state.params)[0])


def test_a_finite_loss_with_a_gradient_that_is_not_is_skipped():
    """sqrt at 0."""
    state = initial_state({"w": jnp.zeros(2)}, optax.sgd(1.0), jax.random.key(0), ())
    step = make_step(lambda params, key, batch: (jnp.sqrt(params["w"] * batch["x"]), {}), optax.sgd(1.0), {})
    after, metrics = step(state, {"x": jnp.ones(2)})
    assert float(metrics["loss"]) == 0.0
    assert int(metrics["skipped"]) == 1
    np.testing.assert_array_equal(after.params["w"], np.zeros(2))


def test_an_objective_that_sees_a_part_is_told_which():
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


ROOT = Path(__file__).resolve().parents[2]

CONFIGS = {
    **{name: open_preset(name).config for name in NAMES},
    **{path.stem: open_preset(str(path)).config for path in (ROOT / "configs").glob("*.py")},
    "options": Config(
        data=DataConfig("folder", data_dir="pictures", size=8),
        network=UNet(
            embedding=Fourier(scale=2.0), resampling="residual", resample_filter=(1, 3, 3, 1), head_channels=4
        ),
        sample=SampleConfig(
            "dpm_solver_pp", {"order": 3}, "uniform_log_snr", {"log_snr_min": -12, "log_snr_max": 9.5}, 7, guidance=2.0
        ),
    ),
    "mlp": Config(data=DataConfig("moons"), network=MLP(width=8, embedding=Fourier(seed=3), dtype="bfloat16")),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_settings_go_through_json(name):
    config = CONFIGS[name]
    again = from_json(json.loads(json.dumps(to_json(config))))
    assert again == config
    assert type(again.network) is type(config.network)
    assert hash(again.network) == hash(config.network)
    assert to_json(again) == to_json(config)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("trian", {}, ["unknown setting trian", "did you mean train?"]),
        ("train.stepps", 3, ["unknown setting stepps", "did you mean steps?"]),
        ("network.chanels", 3, ["unknown setting chanels", "did you mean channels?"]),
        ("network.width", 3, ["unknown setting width"]),  # the other network's
        ("network.embedding.max_perod", 3, ["embedding"]),
        ("network.channels", "8", ["channels", "int", '"8"']),
        ("network", 3, ["network"]),
        ("train.steps", "many", ["train.steps", "int", '"many"']),
        ("train.steps", 2.5, ["train.steps", "int"]),
        ("train.steps", 0, ["steps = 0"]),
        ("train", 3, ["train", "TrainConfig"]),
        ("data.flip", "yes", ["data.flip", "bool"]),
        ("diffusion.process", "vp_cosin", ["diffusion.process", '"vp_cosin"']),
        ("diffusion.process_options", {"shift": [1]}, ["diffusion.process_options"]),
        ("diffusion.process_options", {"shfit": 1.0}, ["process_options = {'shfit': 1.0}"]),
        ("diffusion.label_dropout", 1.5, ["label_dropout = 1.5"]),
        ("optimizer.learning_rate", -1.0, ["learning_rate = -1.0"]),
        ("optimizer.beta2", 1.0, ["beta2 = 1.0"]),
        ("train.seed", 2**32, ["seed = 4294967296"]),
        ("sample.grid", "discrete", ["discrete"]),
        ("sample.steps", -1, ["steps = -1"]),
    ],
)
def test_wrong_settings_are_one_line_that_names_them(path, value, words):
    values = to_json(Config())
    *parents, last = path.split(".")
    place = values
    for parent in parents:
        place = place[parent]
    place[last] = value
    with pytest.raises((ValueError, TypeError)) as error:
        from_json(values)
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


def test_settings_left_out_are_the_defaults():
    assert from_json({}) == Config()
    assert from_json({"train": {"steps": 7}}) == Config(train=TrainConfig(steps=7))
