"""A discriminator of patches: one number for each patch of a picture, high where the picture seems real."""

from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdiff.checks import require
from jaxdiff.networks.inputs import check_settings, compute_types
from jaxdiff.networks.layers.convolution import Conv
from jaxdiff.networks.layers.norms import GroupNorm
from jaxdiff.networks.module import Network

_WIDTH, _SLOPE, _EPS = 4, 0.2, 1e-6


class PatchDiscriminator(Network):
    """Strided convolutions with windows of 4 (Isola et al. 2017, arXiv 1611.07004, section 6.1.2: PatchGAN).

    Group normalisation stands in the place of batch normalisation, so that examples do not depend on each other. With
    three levels a number sees a patch of 70 pixels to a side.

    Attributes:
      channels: channels of the first level; each further level has twice as many, up to 8 times.
      levels: convolutions that halve the resolution.
      dtype: compute type, such as `"bfloat16"`; None for float32, or float64 if the input is float64.
    """

    gives: ClassVar[Any] = "example"
    hidden: ClassVar[str] = r"^level_\d+\.kernel$"

    channels: int = 64
    levels: int = 3
    dtype: str | None = None

    def __post_init__(self) -> None:
        check_settings(self.dtype, levels=self.levels)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Float[Array, "batch *space channels"]) -> Float[Array, "batch *patches 1"]:
        """Maps data `[batch, *space, channels]` to a number for each patch, `[batch, *patches, 1]`.

        Raises:
          ValueError: `x` has no axis of space.
        """
        x = jnp.asarray(x)
        require(x.ndim in (3, 4, 5), "x.shape", x.shape, "[batch, *space, channels] with 1 to 3 axes of space")
        wide, dtype = compute_types(x, self.dtype)
        window = (_WIDTH,) * (x.ndim - 2)
        options: dict[str, Any] = {"padding": 1}
        h = Conv(self.channels, window, 2, dtype=dtype, name="conv_in", **options)(x)
        h = nn.leaky_relu(h, _SLOPE)
        for level in range(1, self.levels + 1):
            strides, width = 2 if level < self.levels else 1, self.channels * min(2**level, 8)
            h = Conv(width, window, strides, use_bias=False, dtype=dtype, name=f"level_{level}", **options)(h)
            h = nn.leaky_relu(GroupNorm(None, _EPS, dtype, name=f"norm_{level}")(h), _SLOPE)
        return Conv(1, window, dtype=wide, name="conv_out", **options)(h)
