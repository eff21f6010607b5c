"""A small autoencoder that imitates the latents of a large one."""

import dataclasses
from typing import Any, ClassVar, Literal, Self

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdiff.checks import integer
from jaxdiff.networks.autoencoders.halves import checked
from jaxdiff.networks.inputs import check_settings, compute_types
from jaxdiff.networks.layers.blocks import conv
from jaxdiff.networks.layers.dense import Dense
from jaxdiff.networks.layers.norms import GroupNorm
from jaxdiff.networks.layers.resampling import upsample
from jaxdiff.networks.module import Network

_LEVELS = (1, 1, 1, 1)
_FACTOR = 8
_POOL_GROUPS, _POOL_EPS = 4, 1e-5


class TinyAutoencoder(Network):
    """Tiny autoencoder for the latents of Stable Diffusion and FLUX (O. Boer Bohan, github madebyollin/taesd).

    Blocks of three convolutions, ReLU and a residual sum change nothing but the channels. The latents have an eighth of
    the resolution. The data are in [-1, 1], and the first and the last layer work in [0, 1]. The decoder bounds latents
    by `3 tanh(z/3)`.

    Attributes:
      channels: channels of all levels.
      num_blocks: blocks per level, but one at the full resolution.
      latent_channels: channels of the latents: 4 (Stable Diffusion 1, 2 and XL), 16 (3 and FLUX.1) or 32 (FLUX.2).
      pooled: whether the blocks at the lowest resolution begin with a group normalisation over the picture (FLUX.2).
      dtype: compute type, such as `"bfloat16"`; None for float32, or float64 if the input is float64.
      data_channels: channels of the data; no setting, since `giving` sets them.
    """

    gives: ClassVar[Literal["autoencoder"]] = "autoencoder"
    hidden: ClassVar[str] = r"^(encoder|decoder)\.(?!(conv_in|conv_out)\.).+\.kernel$"

    channels: int = 64
    num_blocks: int = 3
    latent_channels: int = 4
    pooled: bool = False
    dtype: str | None = None
    data_channels: int = dataclasses.field(default=3, kw_only=True, metadata={"setting": False})

    def __post_init__(self) -> None:
        check_settings(self.dtype, num_blocks=self.num_blocks)
        super().__post_init__()

    def giving(self, features: int) -> Self:
        """The autoencoder of data with `features` channels."""
        integer("features", features)
        return self.clone(data_channels=features)

    def setup(self) -> None:
        """Makes the two halves."""
        integer("latent_channels", self.latent_channels)
        settings = (self.channels, self.num_blocks, self.pooled)
        self.encoder = _Down(*settings, self.latent_channels, self.dtype)
        self.decoder = _Up(*settings, self.data_channels, self.dtype)

    def __call__(self, x: Float[Array, "batch *space channels"]) -> Float[Array, "batch *space channels"]:
        """Encodes and decodes `x` `[batch, *space, data_channels]`. The errors are those of `encode`."""
        return self.decode(self.encode(x))

    def encode(self, x: Float[Array, "batch *space channels"]) -> Float[Array, "batch *small latent_channels"]:
        """Maps data `[batch, *space, data_channels]`, whose sides are multiples of 8, to latents.

        Raises:
          ValueError: `x` has another shape, or a setting is not allowed.
          TypeError: `x` is not floating-point.
        """
        return self.encoder((checked("x", x, self.data_channels, _LEVELS, _FACTOR) + 1) / 2)

    def decode(self, z: Float[Array, "batch *small latent_channels"]) -> Float[Array, "batch *space channels"]:
        """Maps latents `[batch, *small, latent_channels]` to data `[batch, *space, data_channels]`.

        Raises:
          ValueError: `z` has another shape, or a setting is not allowed.
          TypeError: `z` is not floating-point.
        """
        return 2 * self.decoder(checked("z", z, self.latent_channels, _LEVELS)) - 1


class _Down(nn.Module):
    """The way down: from data in [0, 1] to latents."""

    channels: int
    num_blocks: int
    pooled: bool
    features: int
    dtype: str | None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        wide, dtype = compute_types(x, self.dtype)
        h = _block(conv(x, self.channels, dtype, "conv_in"), dtype, "down_0_block_0")
        for level in range(1, len(_LEVELS)):
            h = conv(h, self.channels, dtype, f"down_{level}_resample", strides=2, padding=1, use_bias=False)
            for i in range(self.num_blocks):
                h = _block(h, dtype, f"down_{level}_block_{i}", self.pooled and level == len(_LEVELS) - 1)
        return conv(h, self.features, wide, "conv_out")


class _Up(nn.Module):
    """The way up: from latents to data in [0, 1]."""

    channels: int
    num_blocks: int
    pooled: bool
    features: int
    dtype: str | None

    @nn.compact
    def __call__(self, z: Array) -> Array:
        wide, dtype = compute_types(z, self.dtype)
        h = nn.relu(conv(3 * jnp.tanh(z / 3), self.channels, dtype, "conv_in"))
        for level in reversed(range(1, len(_LEVELS))):
            for i in range(self.num_blocks):
                h = _block(h, dtype, f"up_{level}_block_{i}", self.pooled and level == len(_LEVELS) - 1)
            double = tuple(2 * length for length in h.shape[1:-1])
            h = conv(upsample(h, double), self.channels, dtype, f"up_{level}_resample", use_bias=False)
        return conv(_block(h, dtype, "up_0_block_0"), self.features, wide, "conv_out")


def _block(x: Array, dtype: Any, name: str, pooled: bool = False) -> Array:
    """Three convolutions and a residual sum."""
    channels = x.shape[-1]
    if pooled:
        h = Dense(4 * channels, use_bias=False, dtype=dtype, name=f"{name}_pool_in")(x)
        h = nn.relu(GroupNorm(_POOL_GROUPS, _POOL_EPS, dtype, name=f"{name}_pool_norm")(h))
        x = x + Dense(channels, use_bias=False, dtype=dtype, name=f"{name}_pool_out")(h)
    h = nn.relu(conv(x, channels, dtype, f"{name}_conv_0"))
    h = nn.relu(conv(h, channels, dtype, f"{name}_conv_1"))
    return nn.relu(conv(h, channels, dtype, f"{name}_conv_2") + x)
