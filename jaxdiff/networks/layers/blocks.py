"""The convolution and the residual block."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Key

from jaxdiff.networks.layers.convolution import Conv
from jaxdiff.networks.layers.dense import Dense
from jaxdiff.networks.layers.dropout import Dropout
from jaxdiff.networks.layers.norms import GroupNorm


def conv(x: Array, features: int, dtype: DTypeLike, name: str, zero: bool = False, **options: Any) -> Array:
    """Convolves `x` `[batch, *space, channels]` with a kernel of width 3 along every axis of space.

    The function must be called inside a compact method.

    Args:
      x: the input.
      features: channels of the result.
      dtype: compute type.
      name: name of the layer.
      zero: whether the kernel starts at zero.
      options: further options of `flax.linen.Conv`.
    """
    kernel_init = nn.initializers.zeros if zero else nn.initializers.lecun_normal()
    width = (3,) * (x.ndim - 2)
    return Conv(features, width, dtype=dtype, kernel_init=kernel_init, name=name, **options)(x)


class ResidualBlock(nn.Module):
    """Residual block of DDPM (Ho et al. 2020), score_sde (Song et al. 2021) and ADM (Dhariwal & Nichol 2021).

        h = conv(resample(silu(norm(x))))
        h = norm(h + W e)                             without scale_shift
        h = norm(h) * (1 + W_scale e) + W_shift e     with scale_shift
        h = conv(dropout(silu(h)))                    the kernel starts at zero
        y = (P resample(x) + h) * skip_scale

    P is a dense layer if the number of channels changes or `project` is true, and the identity otherwise.

    Attributes:
      features: channels of the result.
      norm_groups: groups of the group normalisations; None for the rule of `group_count`.
      norm_eps: number added to the variance in the group normalisations.
      scale_shift: whether the embedding e scales and shifts the second norm, or is added before the norm.
      dropout: dropout rate.
      skip_scale: factor of the residual sum.
      dtype: compute type; parameters are float32.
      resample: function that changes the resolution, or None.
      project: whether the shortcut always has a dense layer.
    """

    features: int
    norm_groups: int | None
    norm_eps: float
    scale_shift: bool
    dropout: float
    skip_scale: float
    dtype: DTypeLike
    resample: Callable[[Array], Array] | None = None
    project: bool = False

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch *space channels"],
        embedding: Float[Array, "batch width"] | None,
        keys: Key[Array, " batch"] | None,
    ) -> Float[Array, "batch *new_space features"]:
        """Applies the block.

        Args:
          x: `[batch, *space, channels]`.
          embedding: the embedding e of time and conditions, `[batch, width]`; None for a block without e, whose second
            norm is a plain one.
          keys: one random key per example for dropout; None for no dropout.

        Returns:
          `[batch, *new_space, features]`.
        """

        def norm(h: Array, name: str) -> Array:
            return GroupNorm(self.norm_groups, self.norm_eps, self.dtype, name=name)(h)

        h = nn.silu(norm(x, "norm_in"))
        if self.resample is not None:
            h, x = self.resample(h), self.resample(x)
        h = conv(h, self.features, self.dtype, "conv_in")

        if embedding is None:
            h = norm(h, "norm_out")
        else:
            width = self.features * (2 if self.scale_shift else 1)
            e = Dense(width, dtype=self.dtype, name="embedding")(embedding)
            e = e.reshape(e.shape[0], *(1,) * (x.ndim - 2), width)
            if self.scale_shift:
                scale, shift = jnp.split(e, 2, axis=-1)
                h = norm(h, "norm_out") * (1 + scale) + shift
            else:
                h = norm(h + e, "norm_out")
        h = Dropout(self.dropout, name="dropout")(nn.silu(h), keys)
        h = conv(h, self.features, self.dtype, "conv_out", zero=True)

        if self.project or x.shape[-1] != self.features:
            x = Dense(self.features, dtype=self.dtype, name="shortcut")(x)
        return (x + h) * self.skip_scale
