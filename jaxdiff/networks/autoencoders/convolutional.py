"""A plain convolutional autoencoder, whose latents have a lower resolution than the data."""

import dataclasses
from typing import ClassVar, Literal, Self

from jaxtyping import Array, Float

from jaxdiff.checks import integer
from jaxdiff.networks.autoencoders.halves import Down, Up, checked
from jaxdiff.networks.inputs import check_settings
from jaxdiff.networks.module import Network


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
        integer("latent_channels", self.latent_channels)
        settings = (self.channels, self.multipliers, self.num_blocks)
        self.encoder = Down(*settings, self.latent_channels, self.dtype)
        self.decoder = Up(*settings, self.data_channels, self.dtype)

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
        x = checked("x", x, self.data_channels, self.multipliers, 2 ** (len(self.multipliers) - 1))
        return self.encoder(x)

    def decode(self, z: Float[Array, "batch *small latent_channels"]) -> Float[Array, "batch *space channels"]:
        """Maps latents `[batch, *small, latent_channels]` to data `[batch, *space, data_channels]`.

        Raises:
          ValueError: `z` has another shape, or a setting is not allowed.
          TypeError: `z` is not floating-point.
        """
        return self.decoder(checked("z", z, self.latent_channels, self.multipliers))
