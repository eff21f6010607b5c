"""The ways of a U-Net: down, across the bottom, and up."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple, Self

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array

from jaxdiff.networks.layers.blocks import conv
from jaxdiff.networks.layers.dense import Dense
from jaxdiff.networks.layers.norms import GroupNorm
from jaxdiff.networks.layers.resampling import downsample, upsample
from jaxdiff.networks.unets.levels import Levels


class Bottom(NamedTuple):
    """The hidden state at the end of the way down, and everything that the way up needs.

    Attributes:
      h: the hidden state.
      skips: the hidden states that the way up concatenates, from the first to the last.
      sizes: the spatial shapes before each halving, from the first to the last.
    """

    h: Array
    skips: Sequence[Array]
    sizes: Sequence[tuple[int, ...]]

    def plus(self, side: "Bottom") -> Self:
        """The hidden states with those of a side network added."""
        skips = [skip + added for skip, added in zip(self.skips, side.skips, strict=True)]
        return self._replace(h=self.h + side.h, skips=skips)


def way_down(network: Any, layers: Levels, x: Array, hint: Array | None = None) -> Bottom:
    """The way down, and across the bottom.

    Args:
      network: the settings, those of `UNet`.
      layers: the layers.
      x: the input with planes.
      hint: what is added to the result of the first convolution; None for nothing.
    """
    h = conv(x, network.channels, layers.dtype, "conv_in")
    h = h if hint is None else h + hint
    pyramid, last = x, len(network.multipliers) - 1
    skips: list[Array] = [] if network.resample_first else [h]
    sizes: list[tuple[int, ...]] = []
    for level, multiplier in enumerate(network.multipliers):
        width = network.channels * multiplier
        if network.resample_first:
            sizes.append(h.shape[1:-1])
            h = layers.halve(h, width, f"down_{level}_resample")
        for i in range(layers.num_blocks[level]):
            h = layers.block(h, width, f"down_{level}_block_{i}")
            if level in network.attention_levels:
                h = layers.attention(h, level, f"down_{level}_attention_{i}")
            if not network.resample_first:
                skips.append(h)
        if network.resample_first:
            skips.append(h)
            continue
        if level == last:
            break
        sizes.append(h.shape[1:-1])
        h = layers.halve(h, width, f"down_{level}_resample")
        half = partial(downsample, taps=network.resample_filter)
        if network.input_residual:
            pyramid = half(conv(pyramid, width, layers.dtype, f"down_{level}_input"))
            h = pyramid = (h + pyramid) * network.skip_scale
        elif network.input_skip:
            pyramid = half(pyramid)
            h = h + Dense(width, dtype=layers.dtype, name=f"down_{level}_input")(pyramid)
        skips.append(h)

    h = layers.block(h, width, "mid_block_0")
    if network.mid_attention:
        h = layers.attention(h, last, "mid_attention")
    return Bottom(layers.block(h, width, "mid_block_1"), skips, sizes)


def way_up(network: Any, layers: Levels, bottom: Bottom, features: int, wide: Any) -> Array:
    """The way up, and the output.

    Args:
      network: the settings, those of `UNet`.
      layers: the layers.
      bottom: the result of `way_down`.
      features: the channels of the output.
      wide: the type of the output.
    """

    def output(h: Array, suffix: str = "") -> Array:
        h = nn.silu(GroupNorm(network.norm_groups, network.norm_eps, wide, name=f"norm_out{suffix}")(h))
        return conv(h, features, wide, f"conv_out{suffix}", zero=True)

    h, skips, sizes, pyramid = bottom.h, list(bottom.skips), list(bottom.sizes), None
    for level in reversed(range(len(network.multipliers))):
        width = network.channels * network.multipliers[level]
        count = layers.num_blocks[level] + (0 if network.resample_first else 1)
        for i in range(count):
            if i == 0 or not network.resample_first:
                skip = skips.pop()
                skip = skip if network.concat_scale == 1 else skip * network.concat_scale
                h = jnp.concatenate([h, skip], axis=-1)
            h = layers.block(h, width, f"up_{level}_block_{i}")
            if level in network.attention_levels and (network.decoder_attention == "every" or i == count - 1):
                h = layers.attention(h, level, f"up_{level}_attention_{i}")
        if network.output_skip:
            part = output(h, f"_{level}")
            taps = network.resample_filter
            pyramid = part if pyramid is None else upsample(pyramid, part.shape[1:-1], taps) + part
        if sizes:
            h = layers.double(h, width, f"up_{level}_resample", sizes.pop())
    return output(h) if pyramid is None else pyramid
