"""Attention: its formula, its implementations, and the refusal of those without forward-mode derivatives."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdiff as jd
from jaxdiff.networks import DiT, UNet
from jaxdiff.networks.layers import attention
from jaxdiff.networks.layers.attention import attend
from jaxdiff.networks.layers.fused_attention import flash_on_tpu
from jaxdiff.networks.layers.multi_head import MultiHeadAttention
from jaxdiff.networks.layers.rotary import Rope
from jaxdiff.objectives import score_matching


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def formula(query, key, value, mask=None, bias=None, causal=False, scale=None):
    """Loops in float64 over examples, heads and queries."""
    out = np.zeros(query.shape)
    batch, n, heads, c = query.shape
    for b, h, i in np.ndindex(batch, heads, n):
        logits = key[b, :, h] @ query[b, i, h] * (c**-0.5 if scale is None else scale)
        if bias is not None:
            logits = logits + np.broadcast_to(bias, (batch, heads, n, key.shape[1]))[b, h, i]
        seen = np.ones(len(logits), bool) if mask is None else mask[b].copy()
        if causal:
            seen[i + 1 :] = False
        weights = np.where(seen, np.exp(logits - logits[seen].max()), 0)
        out[b, i, h] = weights @ value[b, :, h] / weights.sum()
    return out


OPTIONS = {
    "plain": {},
    "mask": {"mask": np.array([[1, 1, 1, 0, 0], [1, 0, 1, 1, 0]], bool)},
    "bias": {"bias": normal(1, 3, 5, 5, seed=4), "scale": 1.0},
    "causal": {"causal": True, "mask": np.array([[1, 1, 0, 1, 1], [1, 1, 1, 1, 0]], bool)},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_attention_is_its_formula(name):
    query, key, value = (normal(2, 5, 3, 4, seed=seed) for seed in range(3))
    expected = formula(query, key, value, **OPTIONS[name])
    options = {k: jnp.asarray(v) if isinstance(v, np.ndarray) else v for k, v in OPTIONS[name].items()}
    found = attend(*(jnp.asarray(a, jnp.float32) for a in (query, key, value)), **options)
    np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.mark.parametrize("name", OPTIONS)
def test_blocks_of_queries_are_the_same_function(monkeypatch, name):
    """Blocks of two of five queries, the last filled up; values and derivatives."""
    arrays = [jnp.asarray(normal(2, 5, 3, 4, seed=seed), jnp.float32) for seed in range(3)]
    options = {k: jnp.asarray(v) if isinstance(v, np.ndarray) else v for k, v in OPTIONS[name].items()}

    def value_and_gradient():
        return jax.value_and_grad(lambda *a: jnp.sum(jnp.sin(attend(*a, **options))), argnums=(0, 1, 2))(*arrays)

    expected = value_and_gradient()
    monkeypatch.setattr(attention, "_PAIRS", 1)
    monkeypatch.setattr(attention, "_BLOCK", 2)
    assert "scan" in str(jax.make_jaxpr(lambda *a: attend(*a, **options))(*arrays))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), value_and_gradient(), expected)


def test_the_memory_of_many_queries_grows_with_the_keys():
    def memory(n):
        like = jax.ShapeDtypeStruct((1, n, 2, 8), jnp.float32)
        return jax.jit(jax.grad(lambda *a: attend(*a).sum())).lower(like, like, like).compile().memory_analysis()

    small, large = (memory(n).temp_size_in_bytes for n in (4096, 16_384))
    assert large < 5 * small  # all weights would take 16 times as much, 2 GB


def test_queries_and_keys_may_have_different_numbers():
    query, key, value = normal(1, 2, 1, 4), normal(1, 7, 1, 4, seed=1), normal(1, 7, 1, 4, seed=2)
    found = attend(*(jnp.asarray(a, jnp.float32) for a in (query, key, value)))
    np.testing.assert_allclose(found, formula(query, key, value), atol=2e-6)


def test_the_kernel_for_tpus_and_its_gradient_are_the_same_function():
    """The interpreter of Pallas runs the kernel without a TPU. Hidden keys and padding up to a block change nothing."""
    from jax.experimental.pallas import tpu

    arrays = [jnp.asarray(normal(2, 5, 3, 4, seed=seed), jnp.float32) for seed in range(3)]
    mask, bias, scale = jnp.asarray(OPTIONS["mask"]["mask"]), jnp.asarray(OPTIONS["bias"]["bias"], jnp.float32), 0.3

    def gradient(function):
        return jax.value_and_grad(lambda q, k, v: jnp.sum(jnp.sin(function(q, k, v))), argnums=(0, 1, 2))(*arrays)

    expected = gradient(lambda q, k, v: attend(q, k, v, mask, bias=bias, causal=True, scale=scale))
    with tpu.force_tpu_interpret_mode():
        found = gradient(lambda q, k, v: flash_on_tpu(q, k, v, mask, bias, True, scale))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), found, expected)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="the refusal is that of a CPU")
@pytest.mark.parametrize(
    ("implementation", "words"),
    [
        ("cudnn", "attention = 'cudnn'; allowed are 'xla' on this platform, cpu: 'cudnn' runs on GPUs"),
        ("pallas", "attention = 'pallas'; allowed are 'xla' on this platform, cpu: 'pallas' runs on TPUs"),
        ("flash", "attention = 'flash'; allowed are 'xla', 'cudnn', 'pallas'"),
    ],
)
def test_programs_that_do_not_run_here_are_refused(implementation, words):
    x = jnp.zeros((1, 2, 1, 4))
    with pytest.raises(ValueError, match=re.escape(words)):
        attend(x, x, x, implementation=implementation)


def test_fused_attention_is_refused_where_forward_mode_derivatives_are_needed():
    fused, plain = DiT(attention="cudnn"), DiT()
    assert not fused.forward_mode
    assert plain.forward_mode
    assert UNet().forward_mode
    process, x = jd.processes.flow(), jnp.zeros((1, 4, 4, 1))
    words = "network = 'DiT'; allowed are networks with attention = 'xla', since {} needs forward-mode derivatives"
    denoiser = jd.denoisers.from_network(process, jd.parametrizations.velocity(), fused.apply, None)
    around = jd.guidance.static_threshold(denoiser)
    with pytest.raises(ValueError, match=re.escape(words.format("this"))):
        jd.denoisers.require_forward_mode(around, "this")
    with pytest.raises(ValueError, match=re.escape(words.format("score matching"))):
        score_matching.sliced(fused.apply, jax.random.key(0), x)


@pytest.mark.parametrize("cross", [False, True])
def test_multi_head_attention_is_its_formula(random_variables, cross):
    """Normalised queries and keys, and a rotation in self-attention; a mask in cross-attention."""
    x, context = normal(2, 6, 8), normal(2, 5, 3, seed=1)
    layer = MultiHeadAttention(2, jnp.float32, qk_norm=True)
    mask = OPTIONS["mask"]["mask"] if cross else None
    rotation = None if cross else Rope()((6,), 4)
    arguments = (jnp.asarray(x, jnp.float32), jnp.asarray(context, jnp.float32) if cross else None, mask, rotation)
    variables = random_variables(layer, *arguments)
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])

    def dense(name, a):
        return a @ p[name]["kernel"] + p[name]["bias"]

    def normed(name, a):
        return a / np.sqrt((a**2).mean(-1, keepdims=True) + 1e-6) * p[name]["scale"]

    def rotated(a):
        """Pairs of channels as complex numbers."""
        angle = np.arange(6)[:, None] * 10_000.0 ** (-np.arange(2) / 2)
        turned = (a[..., 0::2] + 1j * a[..., 1::2]) * np.exp(1j * angle)[:, None]
        return np.stack([turned.real, turned.imag], -1).reshape(a.shape)

    def heads(a):
        return a.reshape(*a.shape[:2], 2, 4)

    if cross:
        query, (key, value) = dense("query", x), np.split(dense("key_value", context), 2, -1)
    else:
        query, key, value = np.split(dense("qkv", x), 3, -1)
    query, key = normed("query_norm", heads(query)), normed("key_norm", heads(key))
    if not cross:
        query, key = rotated(query), rotated(key)
    expected = dense("out", formula(query, key, heads(value), mask).reshape(2, 6, 8))
    np.testing.assert_allclose(layer.apply(variables, *arguments), expected, atol=1e-5)
