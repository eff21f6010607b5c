"""Random crops."""

import dataclasses
from collections.abc import Mapping

import jax
from jaxtyping import Array, Int, Key

from jaxdiff.augmentations.augmentation import Augmentation, find
from jaxdiff.checks import integer, require
from jaxdiff.data.fields import Field


@dataclasses.dataclass(frozen=True)
class Crop(Augmentation):
    """Cuts a square at a random place from each picture, or the same square from all frames of a video.

    All places inside the picture are equally probable. Bytes stay bytes.

    Attributes:
      field: the field of the pictures or videos.
      size: the side of the square in pixels.
    """

    field: str = "image"
    size: int = 64

    def __post_init__(self) -> None:
        integer("size", self.size)

    def __call__(self, keys: Key[Array, " batch"], batch: Mapping[str, Array]) -> dict[str, Array]:
        def crop(key: Key[Array, ""], x: Array) -> Array:
            *_, height, width, _ = x.shape
            down_key, right_key = jax.random.split(key)

            def place(key: Key[Array, ""], side: int) -> Int[Array, ""]:
                return jax.random.randint(key, (), 0, side - self.size + 1)

            x = jax.lax.dynamic_slice_in_dim(x, place(down_key, height), self.size, -3 % x.ndim)
            return jax.lax.dynamic_slice_in_dim(x, place(right_key, width), self.size, -2 % x.ndim)

        return {**batch, self.field: jax.vmap(crop)(keys, batch[self.field])}

    def fields(self, fields: Mapping[str, Field]) -> dict[str, Field]:
        field = find(fields, self.field, ("picture", "video"))
        *frames, height, width, channels = field.shape
        fits = self.size <= min(height, width)
        require(fits, "size", self.size, f"integers up to {min(height, width)}, the shorter side of {self.field}")
        return {**fields, self.field: dataclasses.replace(field, shape=(*frames, self.size, self.size, channels))}
