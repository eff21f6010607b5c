"""Normalisation, the residual block and attention against NumPy loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks.reference import dense, group_norm, in_float64, silu

from jaxdiff.networks.layers.attention import SelfAttention
from jaxdiff.networks.layers.blocks import ResidualBlock
from jaxdiff.networks.layers.norms import GroupNorm, group_count
from jaxdiff.networks.layers.resampling import downsample

SCALE = 0.7


def conv(p, x):
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    out = np.zeros((*x.shape[:-1], p["kernel"].shape[-1])) + p["bias"]
    for i in range(x.shape[1]):
        for j in range(x.shape[2]):
            out[:, i, j] += np.einsum("nabc,abcd->nd", padded[:, i : i + 3, j : j + 3], p["kernel"])
    return out


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_group_norm(random_variables, groups):
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 8)) + 100
    layer = GroupNorm(groups, 1e-5, jnp.float32)
    variables = random_variables(layer, jnp.asarray(x, jnp.float32))
    expected = group_norm(in_float64(variables), x, groups, 1e-5)
    # An offset of 100 standard deviations would cost the one-pass variance four digits.
    np.testing.assert_allclose(layer.apply(variables, jnp.asarray(x, jnp.float32)), expected, atol=1e-4)


def test_group_norm_of_half_precision_has_float32_statistics():
    """The result has mean 0 and deviation 1 to far better than bfloat16's relative precision of 4e-3."""
    x = jnp.asarray(np.random.default_rng(1).standard_normal((1, 4096, 4)) + 10, jnp.bfloat16)
    out = GroupNorm(1, 1e-5, jnp.float32).init_with_output(jax.random.key(0), x)[0]
    assert abs(float(out.mean())) < 1e-4
    assert abs(float(out.std()) - 1) < 1e-4


@pytest.mark.parametrize(
    ("channels", "groups"), [(3, 1), (8, 2), (24, 6), (36, 9), (100, 25), (128, 32), (192, 32), (1536, 32)]
)
def test_the_rule_for_groups(channels, groups):
    assert group_count(channels, None) == groups
    assert channels % groups == 0


@pytest.mark.parametrize("groups", [0, 3])
def test_groups_must_divide_the_channels(groups):
    with pytest.raises(ValueError, match=f"norm_groups = {groups}; allowed are divisors of 8 channels"):
        group_count(8, groups)


@pytest.mark.parametrize("scale_shift", [False, True])
@pytest.mark.parametrize(
    ("features", "resample", "project"), [(12, None, False), (8, None, False), (8, downsample, True)]
)
def test_residual_block(random_variables, scale_shift, features, resample, project):
    generator = np.random.default_rng(2)
    x, e = generator.standard_normal((2, 4, 6, 8)), generator.standard_normal((2, 5))
    block = ResidualBlock(features, 2, 1e-5, scale_shift, 0.0, SCALE, jnp.float32, resample, project)
    arguments = (jnp.asarray(x, jnp.float32), jnp.asarray(e, jnp.float32), None)
    variables = random_variables(block, *arguments)
    p = in_float64(variables)

    h = silu(group_norm(p["norm_in"], x, 2, 1e-5))
    shortcut = x
    if resample is not None:
        h, shortcut = (a.reshape(2, 2, 2, 3, 2, 8).mean((2, 4)) for a in (h, x))
    h = conv(p["conv_in"], h)
    shift = dense(p["embedding"], e)[:, None, None]
    if scale_shift:
        h = group_norm(p["norm_out"], h, 2, 1e-5) * (1 + shift[..., :features]) + shift[..., features:]
    else:
        h = group_norm(p["norm_out"], h + shift, 2, 1e-5)
    h = conv(p["conv_out"], silu(h))
    assert ("shortcut" in p) == (project or features != 8)
    if "shortcut" in p:
        shortcut = dense(p["shortcut"], shortcut)
    np.testing.assert_allclose(block.apply(variables, *arguments), SCALE * (shortcut + h), atol=2e-5)


def test_a_residual_block_without_an_embedding_has_a_plain_norm(random_variables):
    """An embedding of zeros, with a bias of zeros, adds nothing."""
    x = jnp.asarray(np.random.default_rng(2).standard_normal((2, 6, 8)), jnp.float32)
    block = ResidualBlock(8, 2, 1e-5, False, 0.0, SCALE, jnp.float32)
    variables = random_variables(block, x, None, None)
    assert "embedding" not in variables["params"]
    nothing = {"kernel": jnp.zeros((3, 8)), "bias": jnp.zeros(8)}
    told = {"params": {**variables["params"], "embedding": nothing}}
    expected = block.apply(told, x, jnp.ones((2, 3)), None)
    np.testing.assert_array_equal(block.apply(variables, x, None, None), expected)


@pytest.mark.parametrize("head_channels", [None, 4])
def test_attention(random_variables, head_channels):
    x = np.random.default_rng(3).standard_normal((2, 3, 2, 8))
    layer = SelfAttention(head_channels, 2, 1e-5, SCALE, jnp.float32)
    variables = random_variables(layer, jnp.asarray(x, jnp.float32))
    p = in_float64(variables)

    size = head_channels or 8
    projected = dense(p["qkv"], group_norm(p["norm"], x, 2, 1e-5)).reshape(2, 6, 24)
    query, key, value = projected[..., :8], projected[..., 8:16], projected[..., 16:]
    attended = np.zeros((2, 6, 8))
    for n in range(2):
        for first in range(0, 8, size):
            head = slice(first, first + size)
            for i in range(6):
                weights = np.exp([query[n, i, head] @ key[n, j, head] / np.sqrt(size) for j in range(6)])
                attended[n, i, head] = weights @ value[n, :, head] / weights.sum()
    expected = SCALE * (x + dense(p["out"], attended).reshape(x.shape))
    np.testing.assert_allclose(layer.apply(variables, jnp.asarray(x, jnp.float32)), expected, atol=2e-5)


def test_heads_must_divide_the_channels():
    with pytest.raises(ValueError, match="head_channels = 3; allowed are divisors of 8 channels"):
        SelfAttention(3, 2, 1e-5, 1.0, jnp.float32).init(jax.random.key(0), jnp.ones((1, 4, 8)))
