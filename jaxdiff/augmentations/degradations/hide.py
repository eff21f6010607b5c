"""Hidden parts of pictures, for models that fill them in."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from jaxdiff.augmentations.degradations.degradation import Degradation
from jaxdiff.checks import fraction, one_of, require

SHAPES, FILLS = ("box", "border", "strokes"), ("noise", "grey")
STROKES, TURNS = 4, 4


@dataclasses.dataclass(frozen=True)
class Hide(Degradation):
    """A random part of the picture is hidden under noise or grey, for inpainting and outpainting.

    Noise shows the model which pixels are hidden. The colours of a hidden pixel are standard normal, clipped to
    [-1, 1]. Saharia et al. 2022 (Palette, arXiv 2111.05826), section 3 and appendix B.

    Attributes:
      shape: "box" hides a box. "border" shows a box alone. "strokes" hides thick strokes of a brush.
      size_min: the least size: of the hidden part of both sides for boxes and borders, and of the width of strokes
        relative to the shorter side.
      size_max: the greatest size. All sizes between are equally probable.
      fill: "noise" or "grey".
      probability: the probability that anything is hidden.
    """

    shape: Literal["box", "border", "strokes"] = "box"
    size_min: float = 0.25
    size_max: float = 0.5
    fill: Literal["noise", "grey"] = "noise"
    probability: float = 1.0

    def __post_init__(self) -> None:
        one_of("shape", self.shape, SHAPES)
        one_of("fill", self.fill, FILLS)
        for name in ("size_min", "size_max", "probability"):
            fraction(name, getattr(self, name))
        require(self.size_min <= self.size_max, "size_max", self.size_max, f"numbers of at least {self.size_min}")

    @property
    def task(self) -> str:
        return "outpaint" if self.shape == "border" else "inpaint"

    def apply(self, key: Key[Array, ""], image: Float[Array, "h w c"]) -> Float[Array, "h w c"]:
        place_key, noise_key = jax.random.split(key)
        return self.covered(noise_key, image, self.hidden(place_key, image.shape[:2]))

    def covered(
        self, key: Key[Array, ""], image: Float[Array, "h w c"], hidden: Bool[Array, "h w"]
    ) -> Float[Array, "h w c"]:
        """The picture, with noise or grey in the pixels that are hidden."""
        noise = jax.random.normal(key, image.shape) if self.fill == "noise" else jnp.zeros(image.shape)
        return jnp.where(hidden[..., None], jnp.clip(noise, -1, 1), image)

    def hidden(self, key: Key[Array, ""], shape: tuple[int, ...]) -> Bool[Array, "h w"]:
        """The pixels that are hidden in pictures of `(height, width)`."""
        size_key, place_key = jax.random.split(key)
        if self.shape == "strokes":
            size = jax.random.uniform(size_key, (STROKES, 1, 1, 1), minval=self.size_min, maxval=self.size_max)
            return _near_strokes(place_key, shape, size * min(shape) / 2)
        size = jax.random.uniform(size_key, (2,), minval=self.size_min, maxval=self.size_max)
        side = jnp.round((1 - size if self.shape == "border" else size) * jnp.asarray(shape))
        corner = jnp.floor(jax.random.uniform(place_key, (2,)) * (jnp.asarray(shape) - side + 1))
        places = (jnp.arange(length) for length in shape)
        rows, columns = (
            (place >= first) & (place < first + length)
            for place, first, length in zip(places, corner, side, strict=True)
        )
        inside = rows[:, None] & columns[None, :]
        return ~inside if self.shape == "border" else inside


def _near_strokes(
    key: Key[Array, ""], shape: tuple[int, ...], radius: Float[Array, "strokes 1 1 1"]
) -> Bool[Array, "h w"]:
    """The pixels that are nearer to one of some broken lines than the radius of the line."""
    corners = jax.random.uniform(key, (STROKES, TURNS + 1, 2)) * jnp.asarray(shape)
    begin, way = corners[:, :-1, None, None], jnp.diff(corners, axis=1)[:, :, None, None]
    pixels = jnp.stack(jnp.meshgrid(*(jnp.arange(length) + 0.5 for length in shape), indexing="ij"), axis=-1)
    offset = pixels - begin  # [strokes, turns, h, w, 2]
    share = jnp.clip(jnp.sum(offset * way, -1) / jnp.maximum(jnp.sum(way**2, -1), 1e-6), 0, 1)
    distance = jnp.linalg.norm(offset - share[..., None] * way, axis=-1)
    return jnp.any(distance < radius, axis=(0, 1))
