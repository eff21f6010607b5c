"""The text transformer: padding, its formula in NumPy, pooling, and refused arguments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.networks import TextTransformer
from jaxdiff.networks.layers.attention import attend

NET = TextTransformer(width=8, depth=2, heads=2, length=6)
PADDING = 256
IDS = jnp.array([[257, 104, 105, 258, PADDING, PADDING], [257, 258, PADDING, PADDING, PADDING, PADDING]])
MASK = IDS != PADDING
APPLY = jax.jit(NET.apply, static_argnames="method")


@pytest.fixture(scope="module")
def variables(random_variables):
    return random_variables(NET, IDS, MASK)


def test_padding_changes_nothing_for_visible_tokens(variables):
    whole = APPLY(variables, IDS, MASK)
    np.testing.assert_array_equal(whole["mask"], MASK)
    assert whole["values"].shape == (2, 6, 8)
    np.testing.assert_array_equal(whole["values"][~MASK], 0)
    other = APPLY(variables, jnp.where(MASK, IDS, 7), MASK)["values"]
    np.testing.assert_allclose(other, whole["values"], atol=1e-6)
    for row, n in ((0, 4), (1, 2)):
        cut = APPLY(variables, IDS[row : row + 1, :n], MASK[row : row + 1, :n])["values"]
        np.testing.assert_allclose(cut[0], whole["values"][row, :n], atol=1e-6)
    pooled = APPLY(variables, IDS, MASK, method="pooled")
    expected = [np.asarray(whole["values"][row, :n]).mean(0) for row, n in ((0, 4), (1, 2))]
    np.testing.assert_allclose(pooled, expected, atol=1e-6)


def test_the_network_is_the_formula_of_its_docstring(variables):
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])

    def dense(q, a):
        return a @ q["kernel"] + q["bias"]

    def norm(q, a):
        return (a - a.mean(-1, keepdims=True)) / np.sqrt(a.var(-1, keepdims=True) + 1e-6) * q["scale"] + q["bias"]

    def gelu(a):
        return 0.5 * a * (1 + np.tanh(np.sqrt(2 / np.pi) * (a + 0.044715 * a**3)))

    def attention(q, a):
        query, key, value = np.split(dense(q["qkv"], a), 3, axis=-1)
        attended = np.zeros_like(a)
        for head in (slice(0, 4), slice(4, 8)):
            for i in range(len(a)):
                weights = np.exp([query[i, head] @ key[j, head] / 2 for j in range(len(a))])
                attended[i, head] = weights @ value[:, head] / weights.sum()
        return dense(q["out"], attended)

    ids = np.asarray(IDS)[0, :4]
    h = p["token_table"]["embedding"][ids] + p["positions"][:4]
    for i in range(2):
        h = h + attention(p[f"block_{i}_attention"], norm(p[f"block_{i}_attention_norm"], h))
        h = h + dense(p[f"block_{i}_out"], gelu(dense(p[f"block_{i}_in"], norm(p[f"block_{i}_norm"], h))))
    expected = norm(p["norm_out"], h)
    np.testing.assert_allclose(APPLY(variables, IDS, MASK)["values"][0, :4], expected, atol=2e-5)


def test_the_order_of_tokens_matters(variables):
    one, two = (APPLY(variables, jnp.array([ids]), jnp.ones((1, 2), bool), method="pooled") for ids in ([1, 2], [2, 1]))
    assert jnp.abs(one - two).max() > 1e-3


def test_attention_without_visible_keys_is_finite_and_has_finite_derivatives():
    x = jnp.asarray(np.random.default_rng(0).standard_normal((1, 3, 2, 4)), jnp.float32)
    mask = jnp.zeros((1, 3), bool)
    np.testing.assert_allclose(attend(x, x, x, mask), jnp.broadcast_to(x.mean(1, keepdims=True), x.shape), atol=1e-6)
    slopes = jax.jit(jax.grad(lambda x: attend(x, x, x, mask).sum()))(x)
    assert jnp.isfinite(slopes).all()


def test_half_precision_keeps_the_mask_and_float32_results(variables):
    half = NET.clone(dtype="bfloat16")
    out, reference = (jax.jit(net.apply)(variables, IDS, MASK)["values"] for net in (half, NET))
    assert out.dtype == jnp.float32
    # bfloat16 rounds by 2^-9 = 0.002, in some tens of operations; float32 would leave less than 1e-6.
    assert 1e-6 < jnp.linalg.norm(out - reference) / jnp.linalg.norm(reference) < 0.05
    padded = jax.jit(half.apply)(variables, jnp.where(MASK, IDS, 7), MASK)["values"]
    np.testing.assert_allclose(padded, out, atol=1e-6)


def test_an_id_outside_of_the_vocabulary_is_nan_for_its_text_alone(variables):
    out = APPLY(variables, IDS.at[1, 0].set(259), MASK)["values"]
    assert jnp.isfinite(out[0]).all()
    assert jnp.isnan(out[1, :2]).all()


@pytest.mark.parametrize(
    ("ids", "mask", "error", "words"),
    [
        (
            jnp.zeros((1, 7), int),
            jnp.ones((1, 7), bool),
            ValueError,
            r"ids\.shape = \(1, 7\); allowed are \[batch, n\] with n",
        ),
        (jnp.zeros(3, int), jnp.ones(3, bool), ValueError, r"ids\.shape = \(3,\)"),
        (jnp.zeros((1, 3)), jnp.ones((1, 3), bool), TypeError, r"ids\.dtype = float32; allowed are integer types"),
        (jnp.zeros((1, 3), int), jnp.ones((1, 2), bool), ValueError, r"mask\.shape = \(1, 2\); allowed are \(1, 3\)"),
        (jnp.zeros((1, 3), int), jnp.ones((1, 3)), TypeError, r"mask\.dtype = float32; allowed are bool"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(ids, mask, error, words):
    with pytest.raises(error, match=words):
        jax.eval_shape(NET.init, jax.random.key(0), ids, mask)


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="heads = 3; allowed are divisors of the width 8"):
        jax.eval_shape(NET.clone(heads=3).init, jax.random.key(0), IDS, MASK)


@pytest.mark.parametrize("settings", [{"depth": -1}, {"depth": 10**9}, {"dtype": "float13"}])
def test_settings_that_would_fail_late_are_refused_when_a_network_is_made(settings):
    ((name, value),) = settings.items()
    with pytest.raises(ValueError, match=f"{name} = {value!r}; allowed are"):
        TextTransformer(**settings)
