"""The circular low-pass filter, which makes edges ring."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jaxdiff.augmentations.degradations.degradation import Degradation, check_range, uniform
from jaxdiff.augmentations.degradations.filters import check_sides, check_sizes, filtered, grid, random_square
from jaxdiff.checks import fraction, positive, require


@dataclasses.dataclass(frozen=True)
class Sinc(Degradation):
    """A sinc filter: no frequency above a random cutoff passes, so that edges ring and overshoot.

    The kernel is `w / (2 pi r) J1(w r)` with the cutoff w and the distance r from its centre. Wang et al. 2021
    (Real-ESRGAN, arXiv 2107.10833), section 3.3, equation 6.

    Attributes:
      cutoff_min: the least cutoff as a fraction of the highest frequency, pi per pixel.
      cutoff_max: the greatest cutoff. All values between are equally probable.
      size_min: the least side of the kernel in pixels, an odd number.
      size_max: the greatest side of the kernel. All odd sides between are equally probable.
      probability: the probability that the picture is filtered at all.
    """

    cutoff_min: float = 1 / 3
    cutoff_max: float = 1.0
    size_min: int = 7
    size_max: int = 21
    probability: float = 1.0

    def __post_init__(self) -> None:
        positive("cutoff_min", self.cutoff_min)
        check_range("cutoff", self.cutoff_min, self.cutoff_max)
        require(self.cutoff_max <= 1, "cutoff_max", self.cutoff_max, "numbers up to 1")
        check_sizes(self.size_min, self.size_max)
        fraction("probability", self.probability)

    def check(self, shape: tuple[int, ...]) -> None:
        check_sides(shape)

    def apply(self, key: Key[Array, ""], image: Float[Array, "h w c"]) -> Float[Array, "h w c"]:
        cutoff_key, size_key = jax.random.split(key)
        kernel = low_pass(math.pi * uniform(cutoff_key, self.cutoff_min, self.cutoff_max), self.size_max)
        return filtered(image, jnp.where(random_square(size_key, self.size_min, self.size_max), kernel, 0.0))


def low_pass(cutoff: Float[Array, ""], size: int) -> Float[Array, "size size"]:
    """The ideal circular low-pass filter, cut to a square of `size` pixels.

    Args:
      cutoff: in radians per pixel, up to pi.
      size: an odd number.
    """
    x, y = grid(size)
    r = jnp.sqrt(x**2 + y**2)
    safe = jnp.where(r > 0, r, 1.0)
    # J1(z) tends to z / 2 at 0.
    return jnp.where(r > 0, cutoff * bessel_j1(cutoff * safe, size) / (2 * math.pi * safe), cutoff**2 / (4 * math.pi))


def bessel_j1(z: Float[Array, "*shape"], size: int) -> Float[Array, "*shape"]:
    """The Bessel function J1, as the mean of `cos(u - z sin u)` over u from 0 to pi.

    The mean over n midpoints has an error of the order of `J_(2n-1)(z)`, which vanishes to rounding as soon as 2n is
    somewhat greater than z. The arguments of a kernel are at most `pi size / sqrt(2)`.
    """
    points = 2 * size + 16
    u = math.pi * (jnp.arange(points) + 0.5) / points
    return jnp.mean(jnp.cos(u - z[..., None] * jnp.sin(u)), axis=-1)
