"""The step and its parts against hand computations: averages, optimiser, gradients, devices; settings as JSON."""

import dataclasses
import json
import math
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdiff as jd
from configs import PRESETS
from jaxdiff.networks import MLP, Fourier, UNet
from jaxdiff.objectives import denoising
from jaxdiff.training import ema
from jaxdiff.training.config import Config, DataConfig, OptimizerConfig, SampleConfig, TrainConfig, from_json, to_json
from jaxdiff.training.optimizers import make_optimizer
from jaxdiff.training.state import initial_state
from jaxdiff.training.step import make_step

ROOT = Path(__file__).parents[2]


def run_ema(rule, values, start=0.0):
    """The average after each of `values`, given to the update as the parameters of steps 1, 2, ..."""

    def body(average, item):
        number, value = item
        average = ema.update({"w": average}, {"w": value}, rule(number))["w"]
        return average, average

    values = jnp.asarray(values)
    return np.asarray(jax.lax.scan(body, jnp.asarray(start, values.dtype), (jnp.arange(1, len(values) + 1), values))[1])


def test_a_constant_decay_is_the_weighted_sum_after_its_warm_up(x64):
    """a_n = sum_k (1 - d_k) prod_{j > k} d_j p_k with d_k = min(d, (1 + k)/(10 + k)); 0.9 is reached at k = 80."""
    n, values = 200, np.random.default_rng(0).standard_normal(200)
    k = np.arange(1, n + 1)
    decays = np.minimum(0.9, (1 + k) / (10 + k))
    assert decays[78] < 0.9 == decays[79]
    after = np.append(np.cumprod(decays[::-1])[::-1][1:], 1.0)
    expected = np.sum((1 - decays) * after * values) + 3.0 * np.prod(decays)
    np.testing.assert_allclose(run_ema(ema.constant(0.9), values, start=3.0)[-1], expected, rtol=1e-12)


def test_the_average_of_a_geometric_sequence(x64):
    """p_k = r^k: a_n = d^n a_0 + (1 - d) r (d^n - r^n)/(d - r), the sum of a geometric series."""
    rule = ema.half_life(1000.0, 50, ramp=None)
    d, r, n = 0.5 ** (50 / 1000), 0.8, np.arange(1, 61)
    expected = d**n * 2.0 + (1 - d) * r * (d**n - r**n) / (d - r)
    np.testing.assert_allclose(run_ema(rule, r**n, start=2.0), expected, rtol=1e-12)


@pytest.mark.parametrize("batch", [10, 50, 100])
def test_after_one_half_life_half_is_left_whatever_the_batch(x64, batch):
    left = run_ema(ema.half_life(1000.0, batch, ramp=None), np.zeros(1000 // batch), start=1.0)[-1]
    np.testing.assert_allclose(left, 0.5, rtol=1e-12)


def test_the_ramp_follows_harmonic_numbers(x64):
    """While h = ramp * images seen, step k keeps 2^(-1/(ramp k)): of step m, steps m+1..n keep 2^(-(H_n - H_m)/ramp).

    With a half-life of 640 images, ramp 0.1 and a batch of 8, it ends at step 800.
    """
    rule = ema.half_life(640.0, 8, ramp=0.1)
    left = run_ema(rule, np.append(np.ones(100), np.zeros(900)))[[99, 499, 799, 999]]
    harmonic = np.cumsum(1 / np.arange(1, 1001))
    expected = [1.0, *(0.5 ** ((harmonic[n - 1] - harmonic[99]) / 0.1) for n in (500, 800))]
    expected.append(expected[-1] * 0.5 ** (200 * 8 / 640))
    np.testing.assert_allclose(left, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ema.constant(1.0), "decay = 1.0"),
        (lambda: ema.constant(-0.1), "decay = -0.1"),
        (lambda: ema.half_life(0, 8), "images = 0"),
        (lambda: ema.half_life(10, 0), "batch_size = 0"),
        (lambda: ema.half_life(10, 8, ramp=0.0), r"ramp = 0\.0"),
        (lambda: ema.half_life(math.nan, 8), "images = nan"),
    ],
)
def test_rules_refuse_what_is_no_decay(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def adamw(params, gradients, rates, config):
    """AdamW as Loshchilov & Hutter write it (algorithm 2, the decay multiplied by the rate), after clipping."""
    m, v = np.zeros_like(params), np.zeros_like(params)
    for k, (g, rate) in enumerate(zip(gradients, rates, strict=True), start=1):
        g = g * min(1.0, config.clip / np.sqrt(np.sum(g**2))) if config.clip else g
        m = config.beta1 * m + (1 - config.beta1) * g
        v = config.beta2 * v + (1 - config.beta2) * g**2
        update = m / (1 - config.beta1**k) / (np.sqrt(v / (1 - config.beta2**k)) + config.tolerance)
        params = params - rate * (update + config.weight_decay * params)
    return params


@pytest.mark.parametrize(
    ("config", "steps", "rates"),
    [
        # Warm-up: step k (0, 1, ...) goes at k/5 of the rate, and at the whole rate from k = 5.
        (OptimizerConfig(0.1, 5), 12, [0.1 * min(k / 5, 1) for k in range(12)]),
        (OptimizerConfig(0.1, 0, clip=0.0, weight_decay=0.3), 8, [0.1] * 8),
        (OptimizerConfig(0.1, 0, clip=0.5, beta1=0.5, beta2=0.7, tolerance=0.1), 8, [0.1] * 8),
        # A cosine from the end of the warm-up to 0 after the last step.
        (
            OptimizerConfig(0.1, 4, decay="cosine"),
            12,
            [0.1 * k / 4 if k < 4 else 0.05 * (1 + math.cos(math.pi * (k - 4) / 8)) for k in range(12)],
        ),
        (OptimizerConfig(0.1, 0, decay="cosine"), 6, [0.05 * (1 + math.cos(math.pi * k / 6)) for k in range(6)]),
        # A run shorter than its warm-up.
        (OptimizerConfig(0.1, 100, decay="cosine"), 4, [0.0, 0.1 / 3, 0.2 / 3, 0.1]),
        (OptimizerConfig(0.1, 100, decay="cosine"), 1, [0.1]),
    ],
)
def test_the_optimizer_is_adamw_after_warm_up_and_clipping(x64, config, steps, rates):
    rng = np.random.default_rng(1)
    start, gradients = rng.standard_normal(7), rng.standard_normal((steps, 7)) * rng.choice([0.1, 3.0], (steps, 1))
    optimizer = make_optimizer(config, steps)
    params = {"a": jnp.asarray(start[:3]), "b": jnp.asarray(start[3:])}  # the norm is that of all leaves together
    state = optimizer.init(params)
    for g in gradients:
        updates, state = optimizer.update({"a": jnp.asarray(g[:3]), "b": jnp.asarray(g[3:])}, state, params)
        params = optax.apply_updates(params, updates)
    # Optax takes the powers of its betas in float32.
    expected = adamw(start, gradients, rates, config)
    np.testing.assert_allclose(np.concatenate([params["a"], params["b"]]), expected, rtol=1e-6)


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


DEVICES = """
    import json
    import jax, jax.numpy as jnp, numpy as np, optax
    from jax.sharding import Mesh, NamedSharding, PartitionSpec
    import jaxdiff as jd
    from jaxdiff.networks import MLP
    from jaxdiff.objectives import denoising
    from jaxdiff.training import ema
    from jaxdiff.training.config import OptimizerConfig
    from jaxdiff.training.optimizers import make_optimizer
    from jaxdiff.training.state import initial_state
    from jaxdiff.training.step import make_step

    assert jax.device_count() == 8
    network, rules = MLP(width=8, num_blocks=1), {"ema": ema.half_life(100, 32)}
    rng = np.random.default_rng(0)
    batches = [{"x": rng.standard_normal((32, 2)).astype(np.float32) + 1} for _ in range(3)]
    params = jax.jit(network.init)(jax.random.key(0), batches[0]["x"], jnp.zeros(32))
    optimizer = make_optimizer(OptimizerConfig(0.05, warmup=0), 3)

    def known(params, key, batch):   # each example's loss depends on that example alone, and on no key
        error = network.apply(params, batch["x"], batch["x"][:, 0]) - batch["x"] ** 2
        return jnp.sum(error**2, axis=1), {"mse": jnp.mean(error**2, axis=1)}

    drawn = denoising(jd.processes.vp_cosine(), jd.parametrizations.v(), network.apply)

    def trained(step, place, put):
        state = jax.tree.map(place, initial_state(params, optimizer, jax.random.key(1)))
        for batch in batches:
            state, metrics = step(state, jax.tree.map(put, batch))
        return state, metrics

    same = lambda leaf: leaf
    mesh = Mesh(jax.devices(), ("data",))
    replicated, split = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("data"))

    def named(objective):
        step = jax.jit(make_step(objective, optimizer, rules))
        put = lambda leaf: jax.device_put(leaf, split)
        state, metrics = trained(step, lambda leaf: jax.device_put(leaf, replicated), put)
        assert all(len(leaf.sharding.device_set) == 8 for leaf in jax.tree.leaves(state))
        return state, metrics

    def mapped(objective):
        reduce = lambda tree: jax.lax.pmean(tree, "data")
        step = jax.pmap(make_step(objective, optimizer, rules, reduce), axis_name="data")
        state, metrics = trained(step, lambda leaf: jnp.stack([leaf] * 8), lambda leaf: leaf.reshape(8, 4, 2))
        for leaf in jax.tree.leaves((state.params, state.opt_state, state.ema, metrics)):
            assert all(np.array_equal(leaf[0], leaf[i]) for i in range(8))
        return jax.tree.map(lambda leaf: leaf[0], (state, metrics))

    def single(objective):
        return trained(jax.jit(make_step(objective, optimizer, rules)), same, same)

    def difference(a, b):
        numbers = lambda pair: jax.tree.leaves((pair[0].params, pair[0].opt_state, pair[0].ema, pair[1]))
        return max(float(np.max(np.abs(x - y))) for x, y in zip(numbers(a), numbers(b), strict=True))

    alone = single(known)
    moved = np.concatenate([np.ravel(p) for p in jax.tree.leaves(jax.tree.map(jnp.subtract, alone[0].params, params))])
    found = {"pmap": difference(mapped(known), alone), "jit": difference(named(known), alone)}
    found["jit, with noise"] = difference(named(drawn), single(drawn))
    print(json.dumps({"moved": float(np.abs(moved).max()), "apart": found}))
"""


def test_one_step_on_one_device_and_on_eight():
    # The other two spare most of the time it takes to compile.
    wanted = (
        "force_host_platform_device_count=8",
        "backend_optimization_level=0",
        "llvm_disable_expensive_passes=true",
    )
    flags = " ".join(f"--xla_{flag}" for flag in wanted)
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    process = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(DEVICES)], env=environment, capture_output=True, text=True, timeout=120
    )
    assert process.returncode == 0, process.stderr
    found = json.loads(process.stdout)
    assert found["moved"] > 0.01
    assert max(found["apart"].values()) < 1e-5, found


CONFIGS = {
    **{name: config for name, (_, config) in PRESETS.items()},
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
