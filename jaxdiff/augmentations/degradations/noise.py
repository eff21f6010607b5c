"""Gaussian and Poisson noise."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jaxdiff.augmentations.degradations.degradation import Degradation, check_range, uniform
from jaxdiff.checks import fraction

WHITE = 256  # the mean count of a white pixel
MANY = 10  # the mean from which counts are expanded
GREY_LEVEL = 2 / 255  # in [-1, 1]


@dataclasses.dataclass(frozen=True)
class Noise(Degradation):
    """Gaussian noise, or Poisson noise, whose standard deviation grows with the square root of the brightness.

    Poisson noise is `scale (n / 256 - v)` at a pixel of the brightness v from 0 to 1, where n is a Poisson count of the
    mean `256 v`. Grey noise is the same in all channels. The result is clipped to [-1, 1]. Wang et al. 2021
    (Real-ESRGAN, arXiv 2107.10833), section 3.1.

    Attributes:
      sigma_min: the least standard deviation of Gaussian noise, in grey levels of 255.
      sigma_max: the greatest standard deviation. All values between are equally probable.
      scale_min: the least factor of Poisson noise.
      scale_max: the greatest factor. All values between are equally probable.
      poisson: the probability of Poisson noise; otherwise the noise is Gaussian.
      grey: the probability of grey noise.
      probability: the probability that there is any noise at all.
    """

    sigma_min: float = 1.0
    sigma_max: float = 30.0
    scale_min: float = 0.05
    scale_max: float = 3.0
    poisson: float = 0.5
    grey: float = 0.4
    probability: float = 1.0

    def __post_init__(self) -> None:
        check_range("sigma", self.sigma_min, self.sigma_max)
        check_range("scale", self.scale_min, self.scale_max)
        for name in ("poisson", "grey", "probability"):
            fraction(name, getattr(self, name))

    def apply(self, key: Key[Array, ""], image: Float[Array, "h w c"]) -> Float[Array, "h w c"]:
        kind_key, size_key, noise_key = jax.random.split(key, 3)
        is_poisson, is_grey = jax.random.uniform(kind_key, (2,)) < jnp.asarray([self.poisson, self.grey])
        z = jax.random.normal(noise_key, image.shape)
        z = jnp.where(is_grey, z[..., :1], z)
        noise = GREY_LEVEL * uniform(size_key, self.sigma_min, self.sigma_max) * z
        if self.poisson > 0:
            brightness = jnp.clip((image + 1) / 2, 0, 1)
            brightness = jnp.where(is_grey, _luma(brightness), brightness)
            counted = poisson(z, WHITE * brightness) / WHITE
            scale = 2 * uniform(size_key, self.scale_min, self.scale_max)
            noise = jnp.where(is_poisson, scale * (counted - brightness), noise)
        return jnp.clip(image + noise, -1, 1)


def poisson(z: Float[Array, "*shape"], mean: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Poisson counts made of standard normal numbers: the quantile of the Poisson distribution at `Phi(z)`.

    Means below 10 are counted out. Others use the expansion of Giles 2016 (ACM TOMS 42, algorithm 955, equation of
    Q_N2), whose result is seldom off by one. `jax.random.poisson` is several times slower, and needs threefry keys.
    """
    root = jnp.sqrt(jnp.maximum(mean, MANY))
    many = jnp.floor(mean + root * z + 1 / 3 + z**2 / 6 - (z / 36 + z**3 / 72) / root)
    u = jax.scipy.special.ndtr(z)

    def count(k: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        found, probability, total = carry
        found = found + (u > total)
        probability = probability * mean / (k + 1)
        return found, probability, total + probability

    none = jnp.exp(-mean)
    few, _, _ = jax.lax.fori_loop(0, 3 * MANY, count, (jnp.zeros_like(mean), none, none))
    return jnp.where(mean < MANY, few, many)


def _luma(image: Float[Array, "h w c"]) -> Float[Array, "h w 1"]:
    """The grey picture: the luma of ITU-R BT.601 of colours, and the mean of other channels."""
    shares = jnp.asarray([0.299, 0.587, 0.114]) if image.shape[-1] == 3 else jnp.ones(image.shape[-1]) / image.shape[-1]
    return jnp.sum(shares * image, axis=-1, keepdims=True)
