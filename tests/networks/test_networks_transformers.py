"""The transformers as a whole: sizes, conditions, symmetries, loops over layers, precision and derivatives."""

import re

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import trees
from jaxdiff.networks import DiT, JiT, LearnedPositions, MMDiT, Rope, SinCosPositions
from jaxdiff.networks.layers.dropout import Dropout
from jaxdiff.networks.layers.stack import stack
from jaxdiff.networks.module import Spec

CLASS, TEXT, POOLED = Spec("class", classes=3), Spec("tokens", (4, 6)), Spec("vector", (5,))
TINY = {"width": 16, "depth": 2, "heads": 2, "embedding_features": 8}
TABLE = SinCosPositions(base=(4,), table=(6,))
NETWORKS = {
    "DiT": DiT(**TINY, patch=(2,), rope=Rope(), qk_norm=True, registers=2, condition_token=True).given(
        {"label": CLASS, "text": TEXT, "pooled": POOLED}
    ),
    "skips": DiT(**TINY | {"depth": 3}, patch=(2,), long_skips=True, feed_forward="geglu").given({"label": CLASS}),
    "MMDiT": MMDiT(**TINY | {"depth": 3}, dual_depth=1, qk_norm=True, positions=TABLE).given(
        {"label": CLASS, "text": TEXT, "pooled": POOLED}
    ),
    "JiT": JiT(**TINY, patch=(2,), bottleneck=6, context_tokens=3, context_start=1).given({"label": CLASS}),
}
SMALLEST = DiT(**TINY | {"depth": 1}, registers=1)
# One other program for each network, of the same parameters and derivatives.
PROGRAMS = {
    "DiT": {"remat": "dots"},
    "skips": {"remat": "blocks", "unroll": True},
    "MMDiT": {"remat": "blocks"},
    "JiT": {"unroll": True},
}
X, TIME = jnp.asarray(np.random.default_rng(0).standard_normal((2, 4, 6, 3)), jnp.float32), jnp.array([3.0, 40.0])
COND = {
    "label": jnp.array([1, 3]),
    "text": {
        "values": jnp.asarray(np.random.default_rng(1).standard_normal((2, 4, 6)), jnp.float32),
        "mask": jnp.array([[1, 1, 0, 1], [1, 0, 0, 0]], bool),
    },
    "pooled": jnp.asarray(np.random.default_rng(2).standard_normal((2, 5)), jnp.float32),
}


def told(network):
    return {name: COND[name] for name, _ in network.specs}


@pytest.fixture(scope="module")
def made(random_variables):
    """Network, variables, conditions, compiled `apply` and the output on `X`."""
    found = {}
    for name, network in NETWORKS.items():
        variables, apply = random_variables(network, X, TIME, told(network)), jax.jit(network.apply)
        found[name] = network, variables, told(network), apply, apply(variables, X, TIME, told(network))
    return found


def close(found, expected, tolerance=1e-5):
    """Equal but for roundings: the tolerance is a part of the largest number."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * float(jnp.abs(expected).max()))


def differ(found, expected):
    assert jnp.abs(found - expected).max() > 1e-3 * jnp.abs(expected).max()


@pytest.mark.parametrize("space", [(6,), (4, 6), (2, 4, 2)])
@pytest.mark.parametrize("name", NETWORKS)
def test_signals_images_and_videos_keep_their_size(name, space):
    width = 48 if len(space) == 3 else 16
    network = NETWORKS[name].clone(width=width, out_channels=5)
    x = jnp.zeros((2, *space, 3))
    out = jax.eval_shape(network.init_with_output, jax.random.key(0), x, TIME, told(network))[0]
    assert out.shape == (2, *space, 5)


def test_a_patch_may_have_another_size_along_each_axis():
    network = DiT(**TINY | {"width": 48}, patch=(1, 2, 3))
    x = jnp.zeros((1, 3, 4, 6, 2))
    out, variables = jax.eval_shape(network.init_with_output, jax.random.key(0), x, jnp.zeros(1))
    assert out.shape == x.shape
    assert variables["params"]["patch_in"]["kernel"].shape == (1, 2, 3, 2, 48)
    assert variables["params"]["out"]["dense"]["kernel"].shape == (48, 1 * 2 * 3 * 2)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_output_of_a_fresh_network_is_zero(made, name):
    """The last layer starts at zero, and every other parameter may have any value."""
    network, variables, cond, apply, _ = made[name]
    last = jax.jit(lambda key: network.init(key, X, TIME, cond)["params"]["out"]["dense"])(jax.random.key(0))
    out = {**variables["params"]["out"], "dense": last}
    np.testing.assert_array_equal(apply({"params": {**variables["params"], "out": out}}, X, TIME, cond), 0.0)


def test_initial_parameters_are_finite_and_float32():
    variables = jax.jit(SMALLEST.init)(jax.random.key(0), X, TIME)
    assert all(leaf.dtype == jnp.float32 and jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(variables))


@pytest.mark.parametrize("name", NETWORKS)
def test_every_input_matters_to_its_own_example(made, name):
    _, variables, cond, apply, before = made[name]
    changes = [(X.at[1].add(1.0), TIME, cond), (X, TIME.at[1].add(1.0), cond)]
    changes.append((X, TIME, cond | {"label": jnp.array([1, 0])}))
    if "text" in cond:
        values = cond["text"]["values"].at[1, 0].add(1.0)
        changes.append((X, TIME, cond | {"text": cond["text"] | {"values": values}}))
        changes.append((X, TIME, cond | {"pooled": cond["pooled"].at[1].add(1.0)}))
    for changed in changes:
        after = apply(variables, *changed)
        close(after[0], before[0])
        differ(after[1], before[1])


@pytest.mark.parametrize("name", ["DiT", "MMDiT"])
def test_padding_changes_nothing(made, name):
    """Hidden tokens may have any values, also none that is a number, and there may be any number of them."""
    _, variables, cond, apply, expected = made[name]
    values, mask = cond["text"]["values"], cond["text"]["mask"]
    spoilt = jnp.where(mask[..., None], values, jnp.nan)
    close(apply(variables, X, TIME, cond | {"text": {"values": spoilt, "mask": mask}}), expected, 1e-6)
    longer = {"values": jnp.pad(values, ((0, 0), (0, 3), (0, 0))), "mask": jnp.pad(mask, ((0, 0), (0, 3)))}
    close(apply(variables, X, TIME, cond | {"text": longer}), expected, 1e-5)


@pytest.mark.parametrize("name", ["DiT", "MMDiT"])
def test_the_order_of_the_tokens_of_conditions_does_not_matter(made, name):
    _, variables, cond, apply, expected = made[name]
    order = jnp.array([2, 0, 3, 1])
    text = {key: value[:, order] for key, value in cond["text"].items()}
    close(apply(variables, X, TIME, cond | {"text": text}), expected)


@pytest.mark.parametrize("name", NETWORKS)
def test_without_positions_patches_are_permuted_with_the_input(random_variables, name):
    network = NETWORKS[name].clone(positions=None)
    network = network.clone(rope=None) if hasattr(network, "rope") else network
    variables = random_variables(network, X, TIME, told(network))
    apply = jax.jit(network.apply)
    parts = X.reshape(2, 2, 2, 3, 2, 3)
    mirrored = parts[:, ::-1, :, ::-1].reshape(X.shape)
    found = apply(variables, mirrored, TIME, told(network)).reshape(parts.shape)[:, ::-1, :, ::-1]
    before = apply(variables, X, TIME, told(network))
    close(found.reshape(X.shape), before)
    differ(found, before.reshape(parts.shape)[:, ::-1, :, ::-1])


def test_planes_are_more_channels_of_the_input(random_variables):
    planes = {"low": Spec("planes", (4, 6, 2))}
    told_planes, plain = DiT(**TINY).given(planes), DiT(**TINY, out_channels=3)
    low = X[..., :2] + 1
    variables = random_variables(told_planes, X, TIME, low)
    expected = jax.jit(plain.apply)(variables, jnp.concatenate([X, low], -1), TIME)
    close(jax.jit(told_planes.apply)(variables, X, TIME, low), expected)


def test_a_network_depends_on_both_of_two_times(random_variables):
    network, time = DiT(**TINY), jnp.array([[1.0, 2.0], [3.0, 5.0]])
    variables, apply = random_variables(network, X, time), jax.jit(network.apply)
    before = apply(variables, X, time)
    for axis in (0, 1):
        after = apply(variables, X, time.at[1, axis].add(1.0))
        close(after[0], before[0])
        differ(after[1], before[1])


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_reach_every_parameter_and_are_those_of_another_program(made, name):
    """Other programs have no loop over layers, or store fewer results."""
    network, variables, cond, _, _ = made[name]

    def gradient(network):
        return jax.jit(jax.grad(lambda v: jnp.mean(jnp.sin(network.apply(v, X, TIME, cond)))))(variables)["params"]

    expected = gradient(network)
    still = {trees.name_of(p) for p, leaf in jax.tree_util.tree_leaves_with_path(expected) if not jnp.abs(leaf).max()}
    # SD3.5 has a norm for the queries of the text in the last block, and no use for their results.
    assert still == ({"last_layer.context_query_norm.scale"} if name == "MMDiT" else set())
    other = network.clone(**PROGRAMS[name])
    shapes = jax.eval_shape(network.init, jax.random.key(0), X, TIME, cond)
    assert jax.eval_shape(other.init, jax.random.key(0), X, TIME, cond) == shapes
    size = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(expected))
    chex.assert_trees_all_close(gradient(other), expected, rtol=0, atol=1e-5 * size)


@pytest.mark.parametrize("name", NETWORKS)
def test_bfloat16_changes_only_the_computation(made, name):
    network, variables, cond, _, reference = made[name]
    half = network.clone(dtype="bfloat16")
    shapes = jax.eval_shape(half.init, jax.random.key(0), X, TIME, cond)
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype(jnp.float32)}
    out = jax.jit(half.apply)(variables, X, TIME, cond)
    assert out.dtype == jnp.float32
    assert 1e-6 < jnp.linalg.norm(out - reference) / jnp.linalg.norm(reference) < 2e-2


def test_dropout_follows_the_keys_and_spares_the_outer_layers_of_jit(random_variables):
    network = JiT(**TINY | {"depth": 4}, patch=(2,), context_start=1, context_tokens=2, dropout=0.5)
    variables, keys = random_variables(network, X, TIME), jax.random.split(jax.random.key(3))
    apply = jax.jit(lambda v, x, time, keys: network.apply(v, x, time, key=keys))
    dropped = apply(variables, X, TIME, keys)
    close(apply(variables, X[::-1], TIME[::-1], keys[::-1]), dropped[::-1])
    differ(apply(variables, X, TIME, keys[::-1]), dropped)
    # Layers 1 and 2 of 4 drop. They are the first two of the second stack, and without gates they add nothing.
    modulation = variables["params"]["layers"]["modulation"]["dense"]
    closed = {"dense": jax.tree.map(lambda leaf: leaf.at[:2].set(0.0), modulation)}
    layers = {**variables["params"]["layers"], "modulation": closed}
    spared = {"params": {**variables["params"], "layers": layers}}
    close(apply(spared, X, TIME, keys), apply(spared, X, TIME, keys[::-1]))


def test_the_layers_of_a_stack_drop_differently():
    """A stack has one name, and each of its layers has a number."""

    class Layers(nn.Module):
        @nn.compact
        def __call__(self, x, keys):
            def body(layer, x, i, _):
                return x, layer(jnp.ones_like(x), trees.fold_in(keys, i))

            return stack(Dropout(0.5, name="layers"), 4, body, x)[1]

    masks = np.asarray(Layers().apply({}, jnp.ones((1, 400)), jax.random.split(jax.random.key(0), 1))).reshape(4, 400)
    agree = (masks[:, None] == masks).mean(-1)
    # Independent fair masks agree half of the time; five deviations.
    assert np.abs(agree[~np.eye(4, dtype=bool)] - 0.5).max() < 5 * 0.5 / np.sqrt(400)


def test_a_network_runs_under_shard_map_with_its_loop(made):
    network, variables, cond, _, expected = made["DiT"]
    mesh = jax.make_mesh((1,), ("rows",), axis_types=(jax.sharding.AxisType.Auto,))
    whole, rows = jax.P(), jax.P("rows")
    mapped = jax.shard_map(network.apply, mesh=mesh, in_specs=(whole, rows, rows, rows), out_specs=rows)
    close(jax.jit(mapped)(variables, X, TIME, cond), expected)


T = jnp.zeros(2)


@pytest.mark.parametrize(
    ("network", "x", "words"),
    [
        (DiT(**TINY), jnp.zeros((2, 6)), "x.shape = (2, 6); allowed are [batch, *space, channels]"),
        (DiT(**TINY), jnp.zeros((2, 5, 4, 1)), "allowed are a space of multiples of the patch (2, 2)"),
        (DiT(**TINY | {"heads": 3}), X, "heads = 3; allowed are divisors of the width 16"),
        (
            DiT(**TINY, positions=LearnedPositions((1,))),
            X,
            "grid of tokens = (2, 3); allowed are grids of at most (1, 1)",
        ),
        (MMDiT(**TINY), X, "channels of the conditions = []; allowed are those with 'tokens', which MMDiT needs"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(network, x, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        jax.eval_shape(network.init, jax.random.key(0), x, T)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: DiT(depth=4, long_skips=True), "depth = 4; allowed are odd integers with long_skips = True"),
        (lambda: DiT(feed_forward="relu"), "feed_forward = 'relu'; allowed are 'gelu', 'silu', 'geglu', 'swiglu'"),
        (lambda: DiT(attention="flash"), "attention = 'flash'; allowed are 'xla', 'cudnn', 'pallas'"),
        (lambda: MMDiT(depth=3, dual_depth=3), "dual_depth = 3; allowed are integers from 0 to 2"),
        (lambda: JiT(context_start=13), "context_start = 13; allowed are integers from 0 to 12"),
    ],
)
def test_settings_that_do_not_fit_are_refused(make, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        make()
