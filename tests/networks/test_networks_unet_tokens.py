"""Tokens in the U-Net: the spatial transformer, joint attention, masks, and several conditions."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks.reference import attention, dense, gelu, group_norm, in_float64, layer_norm, silu

from jaxdiff.networks import Encoder, UNet
from jaxdiff.networks.layers.attention import SelfAttention
from jaxdiff.networks.layers.conditioning import Conditioning
from jaxdiff.networks.layers.context import Context, JoinedTokens
from jaxdiff.networks.layers.embeddings import Sinusoidal
from jaxdiff.networks.layers.transformer import SpatialTransformer
from jaxdiff.networks.module import Spec
from jaxdiff.networks.remat import rematerialised

TOKENS = {"text": Spec("tokens", (4, 6))}
TINY = UNet(channels=8, multipliers=(1,), num_blocks=1, attention_levels=(0,))
HOW = {
    "cross": TINY.clone(heads=(2,), transformer_depths=(2,)),
    "joint": TINY.clone(tokens="joint", head_channels=4, context_norm=True, mid_attention=False),
}
VISIBLE = np.array([[True, False, True, False], [True, True, True, False]])
X, TIME = jnp.asarray(np.random.default_rng(0).standard_normal((2, 6, 3)), jnp.float32), jnp.array([3.0, 40.0])


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def tokens(values, visible=VISIBLE):
    return {"text": {"values": values, "mask": jnp.asarray(visible)}}


@pytest.mark.parametrize("identity", [False, True])
def test_the_spatial_transformer(random_variables, identity):
    x, context = normal(2, 2, 3, 8), Context(normal(2, 4, 6, seed=1), jnp.asarray(VISIBLE))
    layer = SpatialTransformer(4, 2, 0.7, 2, jnp.float32, identity)
    variables = random_variables(layer, x, context)
    p, told = in_float64(variables), np.asarray(context.values, np.float64)

    everywhere = np.ones((2, 6), bool)
    h = dense(p["in"], group_norm(p["norm"], np.asarray(x, np.float64), 2, 1e-6).reshape(2, 6, 8))
    for block in (p["block_0"], p["block_1"]):
        query, key, value = np.split(dense(block["self"]["qkv"], layer_norm(block["norm_self"], h)), 3, -1)
        h = h + dense(block["self"]["out"], value if identity else attention(query, key, value, everywhere, 4))
        query = dense(block["cross"]["query"], layer_norm(block["norm_cross"], h))
        key, value = np.split(dense(block["cross"]["key_value"], told), 2, -1)
        h = h + dense(block["cross"]["out"], attention(query, key, value, VISIBLE, 4))
        linear, gate = np.split(dense(block["in"], layer_norm(block["norm_in"], h)), 2, -1)
        assert linear.shape[-1] == 32
        h = h + dense(block["out"], linear * gelu(gate))
    expected = 0.7 * (np.asarray(x) + dense(p["out"], h).reshape(x.shape))
    np.testing.assert_allclose(layer.apply(variables, x, context), expected, atol=5e-5)
    biased = {name for name in ("self", "cross") for one in p["block_0"][name] if "bias" in p["block_0"][name][one]}
    assert biased == {"self", "cross"}
    assert all(
        "bias" not in p["block_0"][a][b] for a, b in (("self", "qkv"), ("cross", "query"), ("cross", "key_value"))
    )


@pytest.mark.parametrize("identity", [False, True])
def test_joint_attention(random_variables, identity):
    x, context = normal(2, 5, 8), Context(normal(2, 4, 6, seed=1), jnp.asarray(VISIBLE))
    layer = SelfAttention(4, 2, 1e-5, 0.7, jnp.float32, identity)
    variables = random_variables(SelfAttention(4, 2, 1e-5, 0.7, jnp.float32), x, context)
    p = in_float64(variables)
    h = group_norm(p["norm"], np.asarray(x, np.float64), 2, 1e-5)
    query, key, value = np.split(dense(p["qkv"], h), 3, -1)
    keys, values = np.split(dense(p["context"], np.asarray(context.values)), 2, -1)
    key, joined = np.concatenate([keys, key], 1), np.concatenate([values, value], 1)
    visible = np.concatenate([VISIBLE, np.ones((2, 5), bool)], 1)
    h = value if identity else attention(query, key, joined, visible, 4)
    np.testing.assert_allclose(layer.apply(variables, x, context), 0.7 * (x + dense(p["out"], h)), atol=5e-5)


@pytest.mark.parametrize("how", HOW)
def test_hidden_tokens_change_nothing_and_visible_tokens_matter(random_variables, how):
    net, values = HOW[how].given(TOKENS), normal(2, 4, 6, seed=1)
    variables, apply = random_variables(net, X, TIME, tokens(values)), jax.jit(net.apply)
    before = apply(variables, X, TIME, tokens(values))
    size = float(jnp.abs(before).max())
    hidden = jnp.where(VISIBLE[..., None], values, 1e3)
    np.testing.assert_allclose(apply(variables, X, TIME, tokens(hidden)), before, atol=1e-6 * size)
    # The order of tokens is unknown to attention, and hidden tokens may be left out.
    order = jnp.array([2, 3, 1, 0])
    mixed = tokens(values[:, order], VISIBLE[:, order])
    np.testing.assert_allclose(apply(variables, X, TIME, mixed), before, atol=2e-5 * size)
    after = apply(variables, X, TIME, tokens(values.at[1, 0, 0].add(1.0)))
    np.testing.assert_array_equal(after[0], before[0])
    assert jnp.abs(after[1] - before[1]).max() > 1e-3 * size


def test_tokens_that_are_left_out_are_hidden_tokens(random_variables):
    net, values = HOW["joint"].given(TOKENS), normal(2, 4, 6, seed=1)
    variables = random_variables(net, X, TIME, tokens(values))
    apply = jax.jit(net.apply)
    shown = apply(variables, X, TIME, tokens(values[:, :3], VISIBLE[:, :3]))
    np.testing.assert_allclose(shown, apply(variables, X, TIME, tokens(values)), atol=1e-5)


def test_two_conditions_of_tokens_are_projected_and_stand_side_by_side(random_variables):
    specs = (("clip", Spec("tokens", (4, 6))), ("label", Spec("class", classes=2)), ("t5", Spec("tokens", (3, 5))))
    layer = JoinedTokens(specs, jnp.float32, norm=True)
    given = {"clip": {"values": normal(2, 4, 6), "mask": jnp.asarray(VISIBLE)}}
    given |= {"t5": {"values": normal(2, 3, 5, seed=1), "mask": jnp.ones((2, 3), bool)}}
    variables = random_variables(layer, given)
    p, found = in_float64(variables), layer.apply(variables, given)
    shown = {name: np.asarray(part["values"]) * np.asarray(part["mask"])[..., None] for name, part in given.items()}
    expected = np.concatenate([dense(p[name], shown[name]) for name in ("clip", "t5")], 1)
    assert expected.shape == (2, 7, 6)
    np.testing.assert_allclose(found.values, layer_norm(p["context_norm"], expected), atol=1e-5)
    np.testing.assert_array_equal(found.mask, np.concatenate([VISIBLE, np.ones((2, 3), bool)], 1))
    assert JoinedTokens(specs[:1], jnp.float32).init(jax.random.key(0), given) == {}


def test_vectors_after_the_layers_of_time_are_their_formula(random_variables):
    specs = (("pooled", Spec("vector", (3,))), ("label", Spec("class", classes=2)), ("sizes", Spec("vector", (2,))))
    layer = Conditioning(8, 5, Sinusoidal(), specs, jnp.float32, "output")
    given = {"pooled": normal(2, 3), "sizes": normal(2, 2, seed=1), "label": jnp.array([0, 2])}
    for time in (TIME, jnp.stack([TIME, TIME + 2], 1)):
        variables = random_variables(layer, time, given)
        p = in_float64(variables)
        one = time if time.ndim == 1 else time[:, 0]
        h = dense(p["time_in"], np.asarray(Sinusoidal()(one, 8)))
        if time.ndim == 2:
            h = h + dense(p["second_time_in"], np.asarray(Sinusoidal()(time[:, 1], 8)))
        vector = silu(dense(p["vector_in"], np.concatenate([given["pooled"], given["sizes"]], 1)))
        h = dense(p["time_out"], silu(h)) + dense(p["vector_out"], vector) + p["label_table"]["embedding"][[0, 2]]
        np.testing.assert_allclose(layer.apply(variables, time, given), silu(h), atol=2e-5)


def test_rematerialised_transformers_have_the_same_gradients(random_variables):
    x, context = normal(2, 3, 4), Context(normal(2, 4, 6, seed=1), jnp.asarray(VISIBLE))

    def layer(remat):
        return rematerialised(SpatialTransformer, remat)(2, 1, 1.0, 1, jnp.float32)

    variables = random_variables(layer("none"), x, context)

    def gradient(remat):
        def loss(variables):
            return jnp.mean(jnp.square(layer(remat).apply(variables, x, context)))

        return jax.tree.leaves(jax.jit(jax.grad(loss))(variables))

    plain = gradient("none")
    assert all(jnp.abs(leaf).max() > 0 for leaf in plain)  # every parameter is reached
    for found, expected in zip(gradient("dots"), plain, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5 * float(jnp.abs(expected).max()) + 1e-7)


@pytest.mark.parametrize(
    ("net", "cond", "error", "words"),
    [
        (TINY, {}, ValueError, "entries of cond = []; allowed are ['text']"),
        (TINY, {"text": normal(2, 4, 6)}, TypeError, "cond['text'] = "),
        (TINY, tokens(normal(2, 4, 5)), ValueError, "cond['text']['values'].shape = (2, 4, 5); allowed are (2, n, 6)"),
        (TINY, tokens(normal(2, 3, 6)), ValueError, "cond['text']['mask'].shape = (2, 4); allowed are (2, 3)"),
        (TINY, tokens(normal(2, 4, 6), 1.0 * VISIBLE), TypeError, "cond['text']['mask'].dtype = float32"),
        (
            TINY.clone(attention_levels=(), mid_attention=False),
            tokens(normal(2, 4, 6)),
            ValueError,
            "attention_levels = (); allowed are tuples of a level, to attend to tokens",
        ),
        (TINY.clone(heads=(3,)), tokens(normal(2, 4, 6)), ValueError, "heads[0] = 3; allowed are divisors of 8"),
        (TINY.clone(heads=(2, 2)), tokens(normal(2, 4, 6)), ValueError, "heads = (2, 2); allowed are tuples of 1"),
        (TINY.clone(head_channels=3), tokens(normal(2, 4, 6)), ValueError, "head_channels = 3"),
    ],
)
def test_tokens_that_do_not_fit_are_refused(net, cond, error, words):
    with pytest.raises(error, match=re.escape(words)):
        jax.eval_shape(net.given(TOKENS).init, jax.random.key(0), X, TIME, cond)


def test_networks_that_take_no_tokens_say_so():
    with pytest.raises(ValueError, match=r"conditions\.text = tokens; allowed are class, vector, planes"):
        Encoder().given(TOKENS)
