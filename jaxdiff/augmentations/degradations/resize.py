"""Resampling to a random scale and back."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from jaxdiff.augmentations.degradations.degradation import Degradation, check_range, uniform
from jaxdiff.checks import fraction, positive, require
from jaxdiff.posterior.operators.bicubic import keys_cubic

METHODS = 3  # of `weights`


@dataclasses.dataclass(frozen=True)
class Resize(Degradation):
    """Resampling to a random scale and back.

    The picture is resampled by bilinear interpolation, by bicubic interpolation or by areas, which are equally
    probable. It comes back by bicubic interpolation. The interpolations do not smooth before they reduce, as in OpenCV
    and PyTorch, so that the picture aliases. Wang et al. 2021 (Real-ESRGAN, arXiv 2107.10833), section 3.1, leave the
    picture at the random scale until the next resampling. Compiled programs have fixed shapes, so that this class
    returns to the old grid at once.

    Attributes:
      scale_min: the least scale, at most 1.
      scale_max: the greatest scale, at least 1.
      enlarge: the probability that the scale is from 1 to `scale_max`, and not from `scale_min` to 1. Within both
        ranges, all scales are equally probable.
      probability: the probability that the picture is resampled at all.
    """

    scale_min: float = 0.15
    scale_max: float = 1.5
    enlarge: float = 0.2
    probability: float = 1.0

    def __post_init__(self) -> None:
        positive("scale_min", self.scale_min)
        check_range("scale", self.scale_min, self.scale_max)
        require(self.scale_min <= 1, "scale_min", self.scale_min, "numbers up to 1")
        require(self.scale_max >= 1, "scale_max", self.scale_max, "numbers of at least 1")
        fraction("enlarge", self.enlarge)
        fraction("probability", self.probability)

    def apply(self, key: Key[Array, ""], image: Float[Array, "h w c"]) -> Float[Array, "h w c"]:
        which_key, scale_key, method_key = jax.random.split(key, 3)
        up, down = uniform(scale_key, 1.0, self.scale_max), uniform(scale_key, self.scale_min, 1.0)
        scale = jnp.where(jax.random.bernoulli(which_key, self.enlarge), up, down)
        method = jax.random.randint(method_key, (), 0, METHODS)
        height, width, _ = image.shape
        rows, columns = (self.there_and_back(side, scale, method) for side in (height, width))
        # By default accelerators would round the pixels to fewer bits.
        image = jnp.einsum("yh,hwc->ywc", rows, image, precision="highest")
        return jnp.einsum("xw,ywc->yxc", columns, image, precision="highest")

    def there_and_back(self, side: int, scale: Float[Array, ""], method: Int[Array, ""]) -> Float[Array, "side side"]:
        """The weights of the pixels along one axis: resampled to `scale side` pixels, rounded, and back."""
        most = math.ceil(self.scale_max * side)
        pixels = jnp.clip(jnp.round(scale * side), 1, most).astype(jnp.int32)
        there = jnp.stack([weights(i, side, most, side, pixels) for i in range(METHODS)])[method]
        return jnp.matmul(weights(1, most, side, pixels, side), there, precision="highest")


def weights(
    method: int, old_most: int, new_most: int, old: int | Int[Array, ""], new: int | Int[Array, ""]
) -> Float[Array, "new_most old_most"]:
    """The weights of the old pixels along an axis in each new pixel; they sum to 1.

    At the border, the weights of pixels that do not exist are shared out among the others.

    Args:
      method: 0 for bilinear interpolation, 1 for bicubic interpolation (Keys 1981, with a = -1/2), 2 for means over
        areas.
      old_most, new_most: the numbers of columns and of rows of the result.
      old, new: the numbers of pixels, which may be less. Columns from `old` on are 0. Rows from `new` on repeat the
        last row.
    """
    row = jnp.minimum(jnp.arange(new_most), new - 1)[:, None].astype(jnp.float32)
    column = jnp.arange(old_most)
    step = old / new
    if method == 2:
        overlap = jnp.minimum((row + 1) * step, column + 1) - jnp.maximum(row * step, column)
        values = jnp.maximum(overlap, 0.0)
    else:
        distance = jnp.abs((row + 0.5) * step - 0.5 - column)
        values = jnp.maximum(1 - distance, 0.0) if method == 0 else keys_cubic(distance)
    values = jnp.where(column < old, values, 0.0)
    return values / jnp.sum(values, axis=1, keepdims=True)
