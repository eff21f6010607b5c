"""JPEG compression and decompression of pictures."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jaxdiff.augmentations.degradations.degradation import Degradation
from jaxdiff.checks import fraction, integer, require
from jaxdiff.posterior.operators.jpeg import compress


@dataclasses.dataclass(frozen=True)
class Jpeg(Degradation):
    """JPEG compression of a random quality. Pictures have one channel (grey) or three (red, green, blue).

    Attributes:
      quality_min: the least quality, from 1 to 100, as libjpeg counts it.
      quality_max: the greatest quality. All integers between are equally probable.
      subsampled: whether colours are stored at half the resolution (4:2:0), as most files do.
      probability: the probability that the picture is compressed at all.
    """

    quality_min: int = 30
    quality_max: int = 95
    subsampled: bool = True
    probability: float = 1.0

    def __post_init__(self) -> None:
        integer("quality_min", self.quality_min, 1, 100)
        integer("quality_max", self.quality_max, self.quality_min, 100)
        fraction("probability", self.probability)

    @property
    def task(self) -> str:
        return "jpeg"

    def check(self, shape: tuple[int, ...]) -> None:
        require(shape[-1] in (1, 3), "shape of the picture", shape, "[h, w, 1] and [h, w, 3]")

    def apply(self, key: Key[Array, ""], image: Float[Array, "h w c"]) -> Float[Array, "h w c"]:
        quality = jax.random.randint(key, (), self.quality_min, self.quality_max + 1)
        pixels = jnp.clip(jnp.round((image + 1) * 127.5), 0, 255)
        return compress(pixels, quality, self.subsampled) / 127.5 - 1
