"""The autoencoder of latent diffusion, whose latents have a posterior."""

import dataclasses
from typing import Any, ClassVar, Literal, Self

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdiff.checks import integer
from jaxdiff.networks.autoencoders.halves import Down, Up, checked
from jaxdiff.networks.inputs import check_settings
from jaxdiff.networks.layers.dense import Dense
from jaxdiff.networks.module import Network

# The logarithm of the variance of a latent stays between these, as in the published networks.
LEAST, MOST = -30.0, 20.0


class KLAutoencoder(Network):
    """Autoencoder whose encoder gives a normal distribution of the latents (Rombach et al. 2022, arXiv 2112.10752).

    The defaults are the autoencoder of Stable Diffusion 1 and 2 (83,653,863 parameters). With L levels, the latents
    have the size of the data divided by `2 ** (L - 1)`. The decoder has one residual block per level more than the
    encoder. Signals, images and volumes are allowed. The latents are not scaled.

    Attributes:
      channels: base width; level i has `channels * multipliers[i]` channels.
      multipliers: one integer per level; every further level has half the resolution of the level before.
      num_blocks: residual blocks per level of the encoder.
      latent_channels: channels of the latents; 4 in Stable Diffusion 1, 2 and XL, and 16 in 3 and 3.5.
      mid_attention: whether there is self-attention between two residual blocks at the lowest resolution.
      latent_projection: whether dense layers follow the encoder and precede the decoder; not in Stable Diffusion 3.
      norm_groups: groups of every group normalisation; None for at most 32 groups of at least 4 channels.
      dtype: compute type, such as `"bfloat16"`; None for float32, or float64 if the input is float64.
      data_channels: channels of the data; no setting, since `giving` sets them.
    """

    gives: ClassVar[Literal["autoencoder"]] = "autoencoder"
    hidden: ClassVar[str] = r"^(encoder|decoder)\.(?!(conv_in|conv_out)\.).+\.kernel$"

    channels: int = 128
    multipliers: tuple[int, ...] = (1, 2, 4, 4)
    num_blocks: int = 2
    latent_channels: int = 4
    mid_attention: bool = True
    latent_projection: bool = True
    norm_groups: int | None = None
    dtype: str | None = None
    data_channels: int = dataclasses.field(default=3, kw_only=True, metadata={"setting": False})

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
        latent, shared = self.latent_channels, (self.channels, self.multipliers)
        options: dict[str, Any] = {"dtype": self.dtype, "middle": self.mid_attention, "norm_groups": self.norm_groups}
        self.encoder = Down(*shared, self.num_blocks, 2 * latent, **options)
        self.decoder = Up(*shared, self.num_blocks + 1, self.data_channels, **options)
        if self.latent_projection:
            self.encoder_out, self.decoder_in = Dense(2 * latent), Dense(latent)

    def __call__(self, x: Float[Array, "batch *space channels"]) -> Float[Array, "batch *space channels"]:
        """Decodes the mean of the latents of `x` `[batch, *space, data_channels]`. The errors are those of `encode`."""
        return self.decode(self.encode(x))

    def encode(self, x: Float[Array, "batch *space channels"]) -> Float[Array, "batch *small latent_channels"]:
        """The mean of the latents. Arguments and errors are those of `posterior`."""
        return self.posterior(x)[0]

    def posterior(
        self, x: Float[Array, "batch *space channels"]
    ) -> tuple[Float[Array, "batch *small latent_channels"], Float[Array, "batch *small latent_channels"]]:
        """The mean of the latents, and the logarithm of their variance.

        Args:
          x: `[batch, *space, data_channels]` with one to three axes of space, whose lengths are multiples of
            `2 ** (len(multipliers) - 1)`.

        Returns:
          Two arrays `[batch, *small, latent_channels]`, in float32, or in float64 if `x` is float64.

        Raises:
          ValueError: `x` has another shape, or a setting is not allowed.
          TypeError: `x` is not floating-point.
        """
        moments = self.encoder(checked("x", x, self.data_channels, self.multipliers, 2 ** (len(self.multipliers) - 1)))
        if self.latent_projection:
            moments = self.encoder_out(moments)
        mean, log_variance = jnp.split(moments, 2, axis=-1)
        return mean, jnp.clip(log_variance, LEAST, MOST)

    def decode(self, z: Float[Array, "batch *small latent_channels"]) -> Float[Array, "batch *space channels"]:
        """Maps latents `[batch, *small, latent_channels]` to data `[batch, *space, data_channels]`.

        Raises:
          ValueError: `z` has another shape, or a setting is not allowed.
          TypeError: `z` is not floating-point.
        """
        z = checked("z", z, self.latent_channels, self.multipliers)
        return self.decoder(self.decoder_in(z) if self.latent_projection else z)
