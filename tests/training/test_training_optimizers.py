"""Optimisers and their schedules against the papers' formulas in NumPy; the leaves that Muon takes; and their states."""

import functools
import json
import math
import subprocess
import sys
import textwrap

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from devices import forced

from jaxdiff.models.model import is_hidden
from jaxdiff.networks import MLP, ConvAutoencoder, Encoder, TextTransformer, UNet
from jaxdiff.networks.module import Spec
from jaxdiff.objectives import Group
from jaxdiff.runs.checkpoints import Checkpoints
from jaxdiff.training.optimizers import OptimizerConfig, make_optimizer, make_schedule


class AdamW:
    """Loshchilov & Hutter, algorithm 2, the decay multiplied by the rate."""

    def __init__(self, config, params):
        self.config, self.m, self.v, self.k = config, np.zeros_like(params), np.zeros_like(params), 0

    def __call__(self, params, g, rate):
        config = self.config
        self.k += 1
        self.m = config.beta1 * self.m + (1 - config.beta1) * g
        self.v = config.beta2 * self.v + (1 - config.beta2) * g**2
        m, v = self.m / (1 - config.beta1**self.k), self.v / (1 - config.beta2**self.k)
        return params - rate * (m / (np.sqrt(v) + config.eps) + config.weight_decay * params)


class Muon:
    """Momentum, Nesterov's step in Adam's bias-corrected form (Dozat 2016), five Newton-Schulz iterations of the matrix
    `[inputs, outputs]`, and the scale of Liu et al. 2025, section 2.2.
    """

    def __init__(self, config, params):
        self.config, self.m, self.k = config, np.zeros_like(params), 0

    def __call__(self, params, g, rate):
        self.k += 1
        self.m = 0.95 * self.m + 0.05 * g
        ahead = 0.95 * self.m / (1 - 0.95 ** (self.k + 1)) + 0.05 * g / (1 - 0.95**self.k)
        rows, columns = math.prod(params.shape[:-1]), params.shape[-1]
        x = ahead.reshape(rows, columns)
        x = x / np.sqrt(np.sum(x**2))
        for _ in range(5):
            square = x @ x.T
            x = 3.4445 * x - 4.7750 * square @ x + 2.0315 * square @ square @ x
        update = 0.2 * math.sqrt(max(rows, columns)) * x.reshape(params.shape)
        return params - rate * (update + self.config.weight_decay * params)


def trained(config, start, gradients, rules, rates):
    """Parameters by name after all steps. Gradients are clipped by the norm of all leaves together."""
    params, rules = dict(start), {name: rules[name](config, leaf) for name, leaf in start.items()}
    for step, rate in zip(gradients, rates, strict=True):
        norm = math.sqrt(sum(np.sum(g**2) for g in step.values()))
        factor = min(1.0, config.max_grad_norm / norm) if config.max_grad_norm else 1.0
        params = {name: rules[name](leaf, factor * step[name], rate) for name, leaf in params.items()}
    return params


def optimised(optimizer, start, gradients):
    params = jax.tree.map(jnp.asarray, start)
    state = optimizer.init(params)
    update = jax.jit(optimizer.update)
    for g in gradients:
        updates, state = update(jax.tree.map(jnp.asarray, g), state, params)
        params = optax.apply_updates(params, updates)
    return params, state


@pytest.mark.parametrize(
    ("config", "steps", "rates"),
    [
        # Warm-up: step k (0, 1, ...) goes at k/5 of the rate, and at the whole rate from k = 5.
        (OptimizerConfig("adamw", 0.1, 5), 12, [0.1 * min(k / 5, 1) for k in range(12)]),
        (OptimizerConfig("adamw", 0.1, 0, max_grad_norm=0.0, weight_decay=0.3), 8, [0.1] * 8),
        (OptimizerConfig("adamw", 0.1, 0, max_grad_norm=0.5, beta1=0.5, beta2=0.7, eps=0.1), 8, [0.1] * 8),
        # A cosine from the end of the warm-up to 0 after the last step.
        (
            OptimizerConfig("adamw", 0.1, 4, schedule="cosine"),
            12,
            [0.1 * k / 4 if k < 4 else 0.05 * (1 + math.cos(math.pi * (k - 4) / 8)) for k in range(12)],
        ),
        (
            OptimizerConfig("adamw", 0.1, 0, schedule="cosine"),
            6,
            [0.05 * (1 + math.cos(math.pi * k / 6)) for k in range(6)],
        ),
        # A run shorter than its warm-up.
        (OptimizerConfig("adamw", 0.1, 100, schedule="cosine"), 4, [0.0, 0.1 / 3, 0.2 / 3, 0.1]),
        (OptimizerConfig("adamw", 0.1, 100, schedule="cosine"), 1, [0.1]),
    ],
)
def test_adamw_with_warm_up_and_clipping(x64, config, steps, rates):
    rng = np.random.default_rng(1)
    start, gradients = rng.standard_normal(7), rng.standard_normal((steps, 7)) * rng.choice([0.1, 3.0], (steps, 1))
    # The norm is that of all leaves together.
    named = [{"a": g[:3], "b": g[3:]} for g in (start, *gradients)]
    params, _ = optimised(make_optimizer(config, steps), named[0], named[1:])
    expected = trained(config, named[0], named[1:], {"a": AdamW, "b": AdamW}, rates)
    # Optax takes the powers of its betas in float32.
    for name in "ab":
        np.testing.assert_allclose(params[name], expected[name], rtol=1e-6)


# ---------------------------------------------------------------------------------- schedules


@pytest.mark.parametrize("warmup", [0, 100])
def test_inverse_square_root_of_edm2(warmup):
    """Constant after the warm-up until step 400, then a half at 4 times, a tenth at 100 times as many."""
    rate = make_schedule(OptimizerConfig("adamw", 0.01, warmup, schedule="inverse_sqrt", decay_after=400), 1)
    found = [float(rate(jnp.asarray(k))) for k in (0, 50, 100, 250, 400, 1600, 40_000)]
    rising = [0.0, 0.5] if warmup else [1.0, 1.0]
    np.testing.assert_allclose(found, [0.01 * r for r in (*rising, 1.0, 1.0, 1.0, 0.5, 0.1)], rtol=1e-6)


def test_an_inverse_square_root_that_starts_during_the_warm_up():
    """EDM2 multiplies both factors."""
    rate = make_schedule(OptimizerConfig("adamw", 0.01, 100, schedule="inverse_sqrt", decay_after=25), 1)
    np.testing.assert_allclose(float(rate(jnp.asarray(50))), 0.01 * 0.5 / math.sqrt(2), rtol=1e-6)


# ---------------------------------------------------------------------------------- Muon

LEAVES = {
    "block.kernel": (6, 4),
    "block.conv.kernel": (3, 3, 2, 5),  # 18 x 5
    "wide.kernel": (3, 2, 9),  # 6 x 9
    "block.bias": (4,),
    "conv_in.kernel": (3, 3, 1, 4),
    "conv_out.kernel": (3, 3, 4, 1),
    "block.table.embedding": (5, 4),
}
HIDDEN = ("block.kernel", "block.conv.kernel", "wide.kernel")


def nest(flat):
    tree = {}
    for name, leaf in flat.items():
        *parents, last = name.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = leaf
    return {"model": {"params": tree}}


hidden = functools.partial(is_hidden, UNet())


def flat(tree):
    paths = jax.tree_util.tree_flatten_with_path(tree["model"]["params"])[0]
    return {jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(leaf) for path, leaf in paths}


@pytest.mark.parametrize(
    "config",
    [
        OptimizerConfig("muon", 0.02, 3, weight_decay=0.1, max_grad_norm=1.0),
        OptimizerConfig("muon", 0.1, 0, max_grad_norm=0.0, schedule="inverse_sqrt", decay_after=2),
    ],
)
def test_muon_for_hidden_matrices_and_adamw_for_the_rest(x64, config):
    rng = np.random.default_rng(2)
    steps = 6
    start = {name: rng.standard_normal(shape) for name, shape in LEAVES.items()}
    gradients = [{name: rng.standard_normal(shape) for name, shape in LEAVES.items()} for _ in range(steps)]
    rates = [
        config.learning_rate
        * (min(k / config.warmup, 1) if config.warmup else 1)
        / (math.sqrt(max(k / config.decay_after, 1)) if config.schedule == "inverse_sqrt" else 1)
        for k in range(steps)
    ]
    rules = {name: Muon if name in HIDDEN else AdamW for name in LEAVES}
    expected = trained(config, start, gradients, rules, rates)
    params, _ = optimised(make_optimizer(config, steps, hidden=hidden), nest(start), [nest(g) for g in gradients])
    for name, leaf in flat(params).items():
        # Optax takes the powers of its betas, and the coefficients of Newton and Schulz, in float32.
        np.testing.assert_allclose(leaf, expected[name], rtol=2e-6, atol=2e-6, err_msg=name)
        assert np.abs(leaf - start[name]).max() > 0.01


def test_an_update_of_muon_is_nearly_orthogonal_and_as_large_as_one_of_adam():
    """Singular values are 0.2 sqrt(max(rows, columns)) times 0.68 to 1.13 (Jordan 2024, on the fixed coefficients).

    The root mean square of the update is 0.2 times that of these factors.
    """
    kernel = np.random.default_rng(0).standard_normal((3, 3, 16, 24)).astype(np.float32)
    tree = nest({"block.kernel": kernel})
    optimizer = make_optimizer(OptimizerConfig("muon", 1.0, 0), 1, hidden=hidden)
    update = flat(jax.jit(optimizer.update)(tree, optimizer.init(tree), tree)[0])["block.kernel"]
    values = np.linalg.svd(np.reshape(update, (144, 24)), compute_uv=False) / (0.2 * math.sqrt(144))
    assert values.min() >= 0.68
    assert values.max() <= 1.13
    assert 0.2 * 0.68 <= float(jnp.sqrt(jnp.mean(update**2))) <= 0.2 * 1.13


def test_muon_takes_each_layer_of_a_stack_as_a_matrix_of_its_own():
    """The updates of a stack are those of its layers."""
    kernels = np.random.default_rng(0).standard_normal((3, 16, 24)).astype(np.float32)
    optimizer = make_optimizer(OptimizerConfig("muon", 1.0, 0), 1, hidden=lambda path, leaf: True)

    def update(tree):
        return jax.jit(optimizer.update)(tree, optimizer.init(tree), tree)[0]

    whole = update({"model": {"layers": {"kernel": kernels}}})["model"]["layers"]["kernel"]
    for kernel, found in zip(kernels, whole, strict=True):
        np.testing.assert_allclose(
            found, update({"model": {"layer": {"kernel": kernel}}})["model"]["layer"]["kernel"], atol=1e-5
        )


def test_which_leaves_of_the_networks_muon_takes():
    shape, ids, key = jnp.zeros((1, 8, 8, 1)), jnp.zeros((1, 4), jnp.int32), jax.random.key(0)
    unet = UNet(channels=8, multipliers=(1, 2), num_blocks=1).given({"label": Spec("class", (), 3)})
    texts = TextTransformer(width=8, depth=1, heads=1, length=4)

    def leaves(network, *arguments):
        return jax.eval_shape(lambda: {"model": network.init(key, *arguments), "objective": {"kernel": shape}})

    def taken(network, tree):
        paths = jax.tree_util.tree_flatten_with_path(tree)[0]
        named = [(tuple(entry.key for entry in path), leaf) for path, leaf in paths]
        return {".".join(path[2:]) for path, leaf in named if is_hidden(network, path, leaf)}

    mlp = MLP(num_blocks=1)
    assert taken(mlp, leaves(mlp, jnp.zeros((1, 2)), jnp.zeros(1))) == {
        "block_0_in.kernel",
        "block_0_embedding.kernel",
        "block_0_out.kernel",
    }
    shapes = leaves(unet, shape, jnp.zeros(1), jnp.zeros(1, jnp.int32))
    found = taken(unet, shapes)
    block = {"conv_in.kernel", "embedding.kernel", "conv_out.kernel"}
    assert {f"down_0_block_0.{name}" for name in block} | {
        "mid_attention.qkv.kernel",
        "down_0_resample.kernel",
    } <= found
    rank = {name: leaf.ndim for name, leaf in flat(jax.tree.map(lambda s: np.zeros(s.shape), shapes)).items()}
    left = {name for name in rank if name not in found and rank[name] > 1}
    conditioning = {"time_in.kernel", "time_out.kernel", "label_table.embedding"}
    assert left == {"conv_in.kernel", "conv_out.kernel"} | {f"conditioning.{name}" for name in conditioning}

    encoder = Encoder(channels=8, multipliers=(1,), features=3)
    inner = taken(encoder, leaves(encoder, shape, jnp.zeros(1)))
    assert inner
    assert not any(name.startswith(("conv_in.", "dense_out.", "conditioning.")) for name in inner)
    autoencoder = ConvAutoencoder(channels=8, multipliers=(1,))
    inner = taken(autoencoder, leaves(autoencoder, shape))
    assert {name.split(".")[0] for name in inner} == {"encoder", "decoder"}
    assert not any(name.split(".")[1] in ("conv_in", "conv_out") for name in inner)
    kernels = {"attention.qkv", "attention.out", "in", "out"}
    found = taken(texts, leaves(texts, ids, ids < 1))
    assert {name.removeprefix("block_0_").removesuffix(".kernel") for name in found} == kernels


def test_the_state_of_muon_goes_through_a_checkpoint(tmp_path):
    rng = np.random.default_rng(3)
    params = nest({name: rng.standard_normal(shape).astype(np.float32) for name, shape in LEAVES.items()})
    gradients = [jax.tree.map(lambda p: p + 1, params), params]
    optimizer = make_optimizer(OptimizerConfig("muon", 0.1, 0), 2, hidden=hidden)
    after, state = optimised(optimizer, params, gradients)
    shapes = jax.eval_shape(lambda: {"params": params, "opt_state": optimizer.init(params)})
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(2, {"params": after, "opt_state": state})
        checkpoints.wait()
        restored = checkpoints.restore(shapes).state
    chex.assert_trees_all_equal(restored, {"params": after, "opt_state": state})
    # Muon has one moment per leaf and AdamW has two. No leaf belongs to both.
    sizes = {name: math.prod(shape) for name, shape in LEAVES.items()}
    moments = sum(size if name in HIDDEN else 2 * size for name, size in sizes.items())
    numbers = sum(leaf.size for leaf in jax.tree.leaves(state) if leaf.ndim)
    assert numbers == moments + 3  # the coefficients of Newton and Schulz


SHARDED = """
    import json
    import jax, jax.numpy as jnp, numpy as np
    from jax.sharding import Mesh, NamedSharding, PartitionSpec
    from jaxdiff.training.optimizers import OptimizerConfig, make_optimizer

    mesh = Mesh(jax.devices(), ("fsdp",))
    rng = np.random.default_rng(0)
    kernels = {"conv": (3, 3, 8, 16), "dense": (16, 8)}
    tree = {n: {"kernel": rng.standard_normal(s).astype(np.float32)} for n, s in kernels.items()}
    optimizer = make_optimizer(OptimizerConfig("muon", 0.1, 0), 1, hidden=lambda path, leaf: True)
    alone = jax.jit(optimizer.update)(tree, optimizer.init(tree), tree)
    spread = lambda leaf: jax.device_put(
        leaf, NamedSharding(mesh, PartitionSpec(*[None] * (leaf.ndim - 1), *["fsdp"] * (leaf.ndim > 1)))
    )
    placed = jax.tree.map(spread, (tree, optimizer.init(tree), tree))
    found = jax.jit(optimizer.update)(*placed)
    apart = max(float(np.abs(a - b).max()) for a, b in zip(*map(jax.tree.leaves, (found, alone)), strict=True))
    print(json.dumps({"apart": apart, "devices": jax.device_count()}))
"""


def test_muon_with_sharded_kernels():
    process = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SHARDED)], env=forced(8), capture_output=True, text=True, timeout=120
    )
    assert process.returncode == 0, process.stderr
    found = json.loads(process.stdout)
    assert found["devices"] == 8
    assert found["apart"] < 1e-6  # the order of sums, in float32, of updates of size 0.02


# ---------------------------------------------------------------------------------- groups


def test_groups_have_their_own_rate_their_own_steps_and_their_own_clipping(x64):
    """Three leaves: one of no group, one at half the rate, and one that every third step moves, clipped alone."""
    config = OptimizerConfig("adamw", 0.1, 4, schedule="cosine", weight_decay=0.2, max_grad_norm=0.7)
    groups = (Group("^slow", rate=0.5), Group("rare", rate=2.0, every=3, max_grad_norm=0.3))
    rng = np.random.default_rng(4)
    steps = 9
    names = {"main": (3,), "slow": (2,), "a.rare": (4,)}
    start = {name: rng.standard_normal(shape) for name, shape in names.items()}
    gradients = [{name: rng.standard_normal(shape) for name, shape in names.items()} for _ in range(steps)]
    rates = [0.1 * k / 4 if k < 4 else 0.05 * (1 + math.cos(math.pi * (k - 4) / 5)) for k in range(steps)]
    params, rules = dict(start), {name: AdamW(config, leaf) for name, leaf in start.items()}
    for k, (step, rate) in enumerate(zip(gradients, rates, strict=True)):
        shared = math.sqrt(sum(np.sum(step[name] ** 2) for name in ("main", "slow")))
        for name, factor in (("main", 1.0), ("slow", 0.5)):
            params[name] = rules[name](params[name], min(1, 0.7 / shared) * step[name], factor * rate)
        if k in (2, 5, 8):
            g = step["a.rare"]
            clipped = min(1, 0.3 / math.sqrt(np.sum(g**2))) * g
            # The rate is that of the step, and the moments count the updates alone.
            params["a.rare"] = rules["a.rare"](params["a.rare"], clipped, 2 * rate)
    tree = lambda flat: {"main": flat["main"], "slow": flat["slow"], "a": {"rare": flat["a.rare"]}}  # noqa: E731
    optimizer = make_optimizer(config, steps, groups=groups)
    found, _ = optimised(optimizer, tree(start), [tree(g) for g in gradients])
    chex.assert_trees_all_close(found, tree(params), rtol=1e-6)
    two, _ = optimised(optimizer, tree(start), [tree(g) for g in gradients[:2]])
    np.testing.assert_array_equal(two["a"]["rare"], start["a.rare"])


def test_a_group_without_a_limit_of_its_own_shares_that_of_all():
    config = OptimizerConfig("adamw", 1.0, 0, max_grad_norm=1.0, beta1=0.0, beta2=0.0, eps=1.0)
    optimizer = make_optimizer(config, 1, groups=(Group("b", rate=3.0),))
    params = {"a": jnp.asarray([3.0]), "b": jnp.asarray([4.0])}
    found, _ = optimised(optimizer, params, [params])
    # The gradients 3 and 4 become 0.6 and 0.8. With these settings Adam moves by g / (|g| + 1).
    chex.assert_trees_all_close(found, {"a": np.array([3 - 0.6 / 1.6]), "b": np.array([4 - 3 * 0.8 / 1.8])}, rtol=1e-6)


def test_the_first_group_that_fits_takes_a_leaf_and_muon_stays_inside_groups():
    start = nest({name: np.ones(shape, np.float32) for name, shape in LEAVES.items()})
    groups = (Group(r"block\.kernel", rate=0.0), Group("kernel", rate=2.0))
    config = OptimizerConfig("muon", 0.1, 0, max_grad_norm=0.0)
    found, plain = (
        flat(optimised(make_optimizer(config, 1, hidden=hidden, groups=own), start, [start])[0]) for own in (groups, ())
    )
    for name, leaf in found.items():
        factor = 0 if name == "block.kernel" else 2 if name.endswith("kernel") else 1
        np.testing.assert_allclose(leaf - 1, factor * (plain[name] - 1), rtol=1e-5, atol=1e-6)


def test_a_group_that_fits_no_leaf_is_refused():
    optimizer = make_optimizer(OptimizerConfig(), 1, groups=(Group("a"), Group("^nosuch"), Group("b")))
    words = "pattern of an optimiser group = '\\^nosuch'; allowed are patterns that fit a leaf"
    with pytest.raises(ValueError, match=words):
        optimizer.init({"a": jnp.zeros(1), "b": jnp.zeros(1)})
