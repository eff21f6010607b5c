"""The way down and the way up of convolutional autoencoders."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array

from jaxdiff.checks import require
from jaxdiff.networks.inputs import check_levels, compute_types
from jaxdiff.networks.layers.attention import SelfAttention
from jaxdiff.networks.layers.blocks import ResidualBlock, conv
from jaxdiff.networks.layers.norms import GroupNorm
from jaxdiff.networks.layers.resampling import upsample

_NORM_EPS = 1e-6


class Down(nn.Module):
    """Residual blocks that halve the resolution between levels: from data to latents.

    Attributes:
      channels: base width; level i has `channels * multipliers[i]` channels.
      multipliers: one integer per level.
      num_blocks: residual blocks per level.
      features: channels of the result.
      dtype: compute type; None for float32 or wider.
      middle: whether a residual block, self-attention in one head and a residual block follow at the lowest resolution.
      norm_groups: groups of the group normalisations; None for the rule of `group_count`.
    """

    channels: int
    multipliers: tuple[int, ...]
    num_blocks: int
    features: int
    dtype: str | None
    middle: bool = False
    norm_groups: int | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps `[batch, *space, channels]` to `[batch, *small, features]`."""
        wide, dtype = compute_types(x, self.dtype)
        h = conv(x, self.channels, dtype, "conv_in")
        for level, multiplier in enumerate(self.multipliers):
            width = self.channels * multiplier
            for i in range(self.num_blocks):
                h = _block(h, width, self.norm_groups, dtype, f"down_{level}_block_{i}")
            if level < len(self.multipliers) - 1:
                h = conv(h, width, dtype, f"down_{level}_resample", strides=2)
        if self.middle:
            h = _middle(h, self.norm_groups, dtype)
        return _last(h, self.features, self.norm_groups, wide)


class Up(nn.Module):
    """Residual blocks that double the resolution between levels: from latents to data. The attributes are `Down`'s."""

    channels: int
    multipliers: tuple[int, ...]
    num_blocks: int
    features: int
    dtype: str | None
    middle: bool = False
    norm_groups: int | None = None

    @nn.compact
    def __call__(self, z: Array) -> Array:
        """Maps `[batch, *small, channels]` to `[batch, *space, features]`."""
        wide, dtype = compute_types(z, self.dtype)
        h = conv(z, self.channels * self.multipliers[-1], dtype, "conv_in")
        if self.middle:
            h = _middle(h, self.norm_groups, dtype)
        for level in reversed(range(len(self.multipliers))):
            width = self.channels * self.multipliers[level]
            for i in range(self.num_blocks):
                h = _block(h, width, self.norm_groups, dtype, f"up_{level}_block_{i}")
            if level > 0:
                double = tuple(2 * length for length in h.shape[1:-1])
                h = conv(upsample(h, double), width, dtype, f"up_{level}_resample")
        return _last(h, self.features, self.norm_groups, wide)


def checked(name: str, x: Any, channels: int, multipliers: tuple[int, ...], factor: int = 1) -> Array:
    """The argument `name` of an autoencoder as an array of floats.

    Args:
      name: the name of the argument.
      x: `[batch, *space, channels]` with one to three axes of space.
      channels: the channels that `x` has to have.
      multipliers: one integer per level.
      factor: a number that divides the lengths of all axes of space.

    Raises:
      ValueError: `x` has another shape.
      TypeError: `x` is not floating-point.
    """
    x = jnp.asarray(x)
    check_levels(x, multipliers, name=name)
    fits = x.shape[-1] == channels
    require(fits, f"{name}.shape", x.shape, f"[batch, *space, {channels}]")
    fits = all(length % factor == 0 for length in x.shape[1:-1])
    require(fits, f"{name}.shape", x.shape, f"[batch, *space, channels] with a space of multiples of {factor}")
    require(jnp.issubdtype(x.dtype, jnp.floating), f"{name}.dtype", x.dtype, "floating-point types", TypeError)
    return x


def _block(h: Array, features: int, groups: int | None, dtype: Any, name: str) -> Array:
    result: Array = ResidualBlock(features, groups, _NORM_EPS, False, 0.0, 1.0, dtype, name=name)(h, None, None)
    return result


def _middle(h: Array, groups: int | None, dtype: Any) -> Array:
    h = _block(h, h.shape[-1], groups, dtype, "mid_block_0")
    h = SelfAttention(None, groups, _NORM_EPS, 1.0, dtype, name="mid_attention")(h)
    return _block(h, h.shape[-1], groups, dtype, "mid_block_1")


def _last(h: Array, features: int, groups: int | None, wide: Any) -> Array:
    h = nn.silu(GroupNorm(groups, _NORM_EPS, wide, name="norm_out")(h))
    return conv(h, features, wide, "conv_out")
