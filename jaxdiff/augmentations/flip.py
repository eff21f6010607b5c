"""Random mirroring from left to right."""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from jaxdiff.augmentations.augmentation import Augmentation, find
from jaxdiff.checks import fraction
from jaxdiff.data.fields import Field


@dataclasses.dataclass(frozen=True)
class Flip(Augmentation):
    """Mirrors pictures, or all frames of a video alike, from left to right. Bytes stay bytes.

    The network is not told which pictures are mirrored, so that half of the samples are mirrored too.

    Attributes:
      field: the field of the pictures or videos.
      probability: the probability that an example is mirrored.
    """

    field: str = "image"
    probability: float = 0.5

    def __post_init__(self) -> None:
        fraction("probability", self.probability)

    def __call__(self, keys: Key[Array, " batch"], batch: Mapping[str, Array]) -> dict[str, Array]:
        def flip(key: Key[Array, ""], x: Array) -> Array:
            return jnp.where(jax.random.bernoulli(key, self.probability), jnp.flip(x, -2), x)

        return {**batch, self.field: jax.vmap(flip)(keys, batch[self.field])}

    def fields(self, fields: Mapping[str, Field]) -> dict[str, Field]:
        find(fields, self.field, ("picture", "video"))
        return dict(fields)
