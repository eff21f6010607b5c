"""The layers of transformers: patches, positions, feed-forward layers, blocks and stacks of layers."""

import itertools
import math
import re

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.networks import LearnedPositions, Rope, SinCosPositions
from jaxdiff.networks.layers.context import Context
from jaxdiff.networks.layers.feed_forward import FeedForward
from jaxdiff.networks.layers.patches import PatchEmbedding, patch_sizes, patchify, unpatchify
from jaxdiff.networks.layers.stack import stack
from jaxdiff.networks.layers.transformer_block import TransformerBlock


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def in_float64(variables):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables)["params"]


def dense(p, x):
    return x @ p["kernel"] + p["bias"]


@pytest.mark.parametrize(("space", "patch"), [((6,), (3,)), ((4, 6), (2, 3)), ((2, 4, 6), (1, 2, 3))])
def test_patches_are_windows_of_the_input(space, patch):
    x = np.asarray(normal(2, *space, 3))
    tokens = patchify(x, patch)
    for place in np.ndindex(*tokens.shape[1:-1]):
        window = tuple(slice(i * p, (i + 1) * p) for i, p in zip(place, patch, strict=True))
        np.testing.assert_array_equal(tokens[(slice(None), *place)], x[(slice(None), *window)].reshape(2, -1))
    np.testing.assert_array_equal(unpatchify(tokens, patch), x)


def test_the_patch_embedding_is_a_convolution(random_variables):
    x, layer = normal(2, 4, 6, 3), PatchEmbedding(5, (2, 3), jnp.float32)
    variables = random_variables(layer, x)
    convolution = nn.Conv(5, (2, 3), strides=(2, 3), padding="VALID")
    np.testing.assert_allclose(layer.apply(variables, x), convolution.apply(variables, x), atol=1e-5)


@pytest.mark.parametrize(
    ("patch", "space", "words"),
    [
        ((2, 2), (4,), "patch = (2, 2); allowed are tuples of 1 or 1 integers"),
        ((3,), (6, 4), "a space of multiples of the patch (3, 3)"),
        ((0,), (6,), "patch = 0; allowed are integers of at least 1"),
    ],
)
def test_patches_that_do_not_fit_are_refused(patch, space, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        patch_sizes(patch, space)


def waves(position, entries):
    phases = [position * 10_000 ** (-2 * i / entries) for i in range(entries // 2)]
    return [math.sin(p) for p in phases] + [math.cos(p) for p in phases]


def test_positions_are_their_formulas():
    one = SinCosPositions()(None, (5,), 8)
    np.testing.assert_allclose(one[3], waves(3, 8), atol=1e-6)
    two = SinCosPositions()(None, (3, 5), 8)
    np.testing.assert_allclose(two[2, 4], waves(4, 4) + waves(2, 4), atol=1e-6)
    three = SinCosPositions()(None, (2, 3, 5), 16)
    np.testing.assert_allclose(three[1, 2, 4], waves(1, 4) + waves(4, 6) + waves(2, 6), atol=1e-6)


def test_a_grid_is_the_centre_of_the_table_whose_positions_span_the_base():
    found = SinCosPositions(base=(4,), table=(8,))(None, (2, 5), 8)
    # The table has 8 positions that are half a unit apart; the grid begins at its places 3 and 1.
    np.testing.assert_allclose(found[1, 2], waves(1.5, 4) + waves(2.0, 4), atol=1e-6)


class Table(nn.Module):
    """A module that holds learned positions."""

    @nn.compact
    def __call__(self, grid):
        return LearnedPositions((4, 6))(self, grid, 3)


def test_learned_positions_are_a_table_whose_centre_is_taken():
    variables = Table().init(jax.random.key(0), (4, 6))
    table = variables["params"]["positions"]
    assert table.shape == (4, 6, 3)
    np.testing.assert_array_equal(Table().apply(variables, (2, 3)), table[1:3, 1:4])
    with pytest.raises(ValueError, match=re.escape("grid of tokens = (5, 6); allowed are grids of at most (4, 6)")):
        Table().apply(variables, (5, 6))


@pytest.mark.parametrize(("width", "grid"), [(7, (4,)), (6, (2, 2)), (8, (2, 2, 2))])
def test_widths_that_positions_cannot_share_are_refused(width, grid):
    with pytest.raises(ValueError, match=f"width = {width}; allowed are multiples of"):
        SinCosPositions()(None, grid, width)


@pytest.mark.parametrize("grid", [(5,), (3, 4), (2, 3, 4)])
def test_rotated_products_depend_on_differences_of_positions_alone(grid):
    """The product of a query at p and a key at q is the same for all p and q of equal p - q."""
    rotation = Rope(100.0)(grid, 12)
    query, key = (jnp.broadcast_to(normal(12, seed=seed), (1, math.prod(grid), 1, 12)) for seed in (0, 1))
    products = np.asarray(jnp.einsum("bqhc,bkhc->qk", rotation(query), rotation(key)))
    places = list(np.ndindex(*grid))
    by_difference = {}
    for (i, p), (j, q) in itertools.product(enumerate(places), repeat=2):
        by_difference.setdefault(tuple(np.subtract(p, q)), []).append(products[i, j])
    assert max(np.ptp(values) for values in by_difference.values()) < 1e-4
    assert np.std([values[0] for values in by_difference.values()]) > 0.1


def test_tokens_before_the_grid_are_not_rotated():
    x = normal(1, 7, 1, 8)
    np.testing.assert_array_equal(Rope()((2, 2), 8).after(3)(x)[:, :4], x[:, :4])


@pytest.mark.parametrize("activation", ["gelu", "silu", "geglu", "swiglu"])
def test_feed_forward_layers_are_their_formulas(random_variables, activation):
    x, layer = normal(2, 3, 4), FeedForward(6, activation, jnp.float32)
    variables = random_variables(layer, x)
    p = in_float64(variables)
    h = dense(p["in"], np.asarray(x, np.float64))
    a, b = np.split(h, 2, -1) if activation.endswith("glu") else (h, h)
    erf = np.vectorize(math.erf)
    middle = {
        "gelu": h / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h**3))),
        "silu": h / (1 + np.exp(-h)),
        "geglu": a * b / 2 * (1 + erf(b / math.sqrt(2))),
        "swiglu": a / (1 + np.exp(-a)) * b,
    }[activation]
    np.testing.assert_allclose(layer.apply(variables, x), dense(p["out"], middle), atol=1e-5)


def make_block(**options):
    settings = {"heads": 2, "hidden": 6, "activation": "gelu", "norm": "layer", "qk_norm": False, "norm_eps": 1e-6}
    settings |= {"feed_forward_norm_eps": 1e-6, "dropout": 0.0, "attention": "xla", "dtype": jnp.float32}
    return TransformerBlock(**settings | options)


def test_a_block_is_its_formula_with_a_context_and_a_skip(random_variables):
    """The attention and the feed-forward layer are tested on their own: here their modules are applied as they are."""
    h, c, skip = normal(2, 5, 8), normal(2, 3, seed=1), normal(2, 5, 8, seed=2)
    context = Context(normal(2, 4, 8, seed=3), jnp.array([[1, 1, 0, 0], [1, 1, 1, 1]], bool))
    block = make_block()
    variables = random_variables(block, h, c, context, None, None, skip)
    p = variables["params"]

    def layer(module, name, *arguments):
        return np.asarray(module.apply({"params": p[name]}, *arguments), np.float64)

    def norm(a):
        a = np.asarray(a, np.float64)
        return (a - a.mean(-1, keepdims=True)) / np.sqrt(a.var(-1, keepdims=True) + 1e-6)

    from jaxdiff.networks.layers.multi_head import MultiHeadAttention

    a = dense(in_float64(variables)["skip"], np.concatenate([h, skip], -1))
    silu = np.asarray(c / (1 + np.exp(-c)), np.float64)
    parts = np.split(dense(in_float64(variables)["modulation"]["dense"], silu)[:, None], 6, -1)
    heads = MultiHeadAttention(2, jnp.float32)
    a = a + parts[2] * layer(heads, "attention", jnp.asarray(norm(a) * (1 + parts[1]) + parts[0], jnp.float32))
    a = a + layer(heads, "cross_attention", jnp.asarray(a, jnp.float32), *context)
    b = jnp.asarray(norm(a) * (1 + parts[4]) + parts[3], jnp.float32)
    a = a + parts[5] * layer(FeedForward(6, "gelu", jnp.float32), "feed_forward", b)
    np.testing.assert_allclose(block.apply(variables, h, c, context, None, None, skip), a, atol=2e-5)


@pytest.mark.parametrize("norm", ["layer", "rms"])
def test_a_new_block_changes_nothing(norm):
    h, c = normal(2, 5, 8), normal(2, 3, seed=1)
    context = Context(normal(2, 4, 8, seed=3), jnp.ones((2, 4), bool))
    out, _ = make_block(norm=norm, qk_norm=True).init_with_output(jax.random.key(0), h, c, context)
    np.testing.assert_array_equal(out, h)


class Layers(nn.Module):
    """Dense layers, in a stack."""

    depth: int
    unroll: bool

    @nn.compact
    def __call__(self, x, inputs):
        layer = nn.Dense(3, name="layers")

        def body(layer, x, i, scale):
            x = jnp.sin(layer(x)) * scale + i
            return x, x

        return stack(layer, self.depth, body, x, inputs, first=5, unroll=self.unroll)


def test_a_stack_is_its_layers_one_after_the_other():
    x, scales = normal(2, 3), normal(4, seed=1)
    variables = Layers(4, False).init(jax.random.key(0), x, scales)
    kernels, biases = (variables["params"]["layers"][name] for name in ("kernel", "bias"))
    assert kernels.shape == (4, 3, 3)
    assert jnp.abs(kernels[0] - kernels[1]).max() > 0.1
    expected = []
    for i in range(4):
        x_next = jnp.sin((expected[-1] if expected else x) @ kernels[i] + biases[i]) * scales[i] + 5 + i
        expected.append(x_next)
    for unroll in (False, True):
        last, outputs = Layers(4, unroll).apply(variables, x, scales)
        chex.assert_trees_all_close((last, outputs), (expected[-1], jnp.stack(expected)), atol=1e-5)
    assert Layers(0, False).init_with_output(jax.random.key(0), x, None)[0][0] is x
