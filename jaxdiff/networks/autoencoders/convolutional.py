"""A plain convolutional autoencoder, whose latents have a lower resolution than the data."""

import dataclasses
from typing import Any, ClassVar, Literal, Self

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdiff.checks import integer, require
from jaxdiff.networks.inputs import check_levels, check_settings, compute_types
from jaxdiff.networks.layers.blocks import ResidualBlock, conv
from jaxdiff.networks.layers.norms import GroupNorm
from jaxdiff.networks.layers.resampling import upsample
from jaxdiff.networks.module import Network

_NORM_EPS = 1e-6


class ConvAutoencoder(Network):
    """Residual blocks that halve the resolution, and residual blocks that double it again.

    The design is that of the autoencoders of latent diffusion (Rombach et al. 2022, arXiv 2112.10752) without their
    attention. With L levels, the latents have the size of the data divided by `2 ** (L - 1)`. Signals, images and
    volumes are allowed. An input is not normalised, and latents have no bounds.

    Attributes:
      channels: base width; level i has `channels * multipliers[i]` channels.
      multipliers: one integer per level; every further level has half the resolution of the level before.
      num_blocks: residual blocks per level, in the encoder and in the decoder.
      latent_channels: channels of the latents.
      dtype: compute type, such as `"bfloat16"`; None for float32, or float64 if the input is float64.
      data_channels: channels of the data; no setting, since `giving` sets them.
    """

    gives: ClassVar[Literal["autoencoder"]] = "autoencoder"
    hidden: ClassVar[str] = r"^(encoder|decoder)\.(?!(conv_in|conv_out)\.).+\.kernel$"

    channels: int = 64
    multipliers: tuple[int, ...] = (1, 2, 2)
    num_blocks: int = 1
    latent_channels: int = 4
    dtype: str | None = None
    data_channels: int = dataclasses.field(default=1, kw_only=True, metadata={"setting": False})

    def __post_init__(self) -> None:
        check_settings(self.dtype, self.multipliers, num_blocks=self.num_blocks)
        super().__post_init__()

    def giving(self, features: int) -> Self:
        """The autoencoder of data with `features` channels."""
        integer("features", features)
        return self.clone(data_channels=features)

    def setup(self) -> None:
        """Makes the two halves."""
        settings = (self.channels, self.multipliers, self.num_blocks)
        self.encoder = _Encoder(*settings, self.latent_channels, self.dtype)
        self.decoder = _Decoder(*settings, self.data_channels, self.dtype)

    def __call__(self, x: Float[Array, "batch *space channels"]) -> Float[Array, "batch *space channels"]:
        """Encodes and decodes `x` `[batch, *space, data_channels]`. The errors are those of `encode`."""
        return self.decode(self.encode(x))

    def encode(self, x: Float[Array, "batch *space channels"]) -> Float[Array, "batch *small latent_channels"]:
        """Maps data to latents.

        Args:
          x: `[batch, *space, data_channels]` with one to three axes of space, whose lengths are multiples of
            `2 ** (len(multipliers) - 1)`.

        Returns:
          `[batch, *small, latent_channels]`, in float32, or in float64 if `x` is float64.

        Raises:
          ValueError: `x` has another shape, or a setting is not allowed.
          TypeError: `x` is not floating-point.
        """
        x = self._checked("x", x, self.data_channels)
        factor = 2 ** (len(self.multipliers) - 1)
        fits = all(length % factor == 0 for length in x.shape[1:-1])
        require(fits, "x.shape", x.shape, f"[batch, *space, channels] with a space of multiples of {factor}")
        return self.encoder(x)

    def decode(self, z: Float[Array, "batch *small latent_channels"]) -> Float[Array, "batch *space channels"]:
        """Maps latents `[batch, *small, latent_channels]` to data `[batch, *space, data_channels]`.

        Raises:
          ValueError: `z` has another shape, or a setting is not allowed.
          TypeError: `z` is not floating-point.
        """
        return self.decoder(self._checked("z", z, self.latent_channels))

    def _checked(self, name: str, x: Any, channels: int) -> Array:
        x = jnp.asarray(x)
        check_levels(x, self.multipliers, name=name)
        integer("latent_channels", self.latent_channels)
        fits = x.shape[-1] == channels
        require(fits, f"{name}.shape", x.shape, f"[batch, *space, {channels}]")
        require(jnp.issubdtype(x.dtype, jnp.floating), f"{name}.dtype", x.dtype, "floating-point types", TypeError)
        return x


class _Encoder(nn.Module):
    """The way down: from data to latents."""

    channels: int
    multipliers: tuple[int, ...]
    num_blocks: int
    features: int
    dtype: str | None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        wide, dtype = compute_types(x, self.dtype)
        h = conv(x, self.channels, dtype, "conv_in")
        for level, multiplier in enumerate(self.multipliers):
            width = self.channels * multiplier
            for i in range(self.num_blocks):
                h = _block(width, dtype, f"down_{level}_block_{i}")(h, None, None)
            if level < len(self.multipliers) - 1:
                h = conv(h, width, dtype, f"down_{level}_resample", strides=2)
        return _last(h, self.features, wide)


class _Decoder(nn.Module):
    """The way up: from latents to data."""

    channels: int
    multipliers: tuple[int, ...]
    num_blocks: int
    features: int
    dtype: str | None

    @nn.compact
    def __call__(self, z: Array) -> Array:
        wide, dtype = compute_types(z, self.dtype)
        h = conv(z, self.channels * self.multipliers[-1], dtype, "conv_in")
        for level in reversed(range(len(self.multipliers))):
            width = self.channels * self.multipliers[level]
            for i in range(self.num_blocks):
                h = _block(width, dtype, f"up_{level}_block_{i}")(h, None, None)
            if level > 0:
                double = tuple(2 * length for length in h.shape[1:-1])
                h = conv(upsample(h, double), width, dtype, f"up_{level}_resample")
        return _last(h, self.features, wide)


def _block(features: int, dtype: Any, name: str) -> ResidualBlock:
    return ResidualBlock(features, None, _NORM_EPS, False, 0.0, 1.0, dtype, name=name)


def _last(h: Array, features: int, wide: Any) -> Array:
    h = nn.silu(GroupNorm(None, _NORM_EPS, wide, name="norm_out")(h))
    return conv(h, features, wide, "conv_out")
