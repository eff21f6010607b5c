"""The mark of the place in a chain where the picture is reduced."""

import dataclasses
from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jaxdiff.augmentations.degradations.degradation import Degradation
from jaxdiff.checks import one_of
from jaxdiff.data.pixels import reduced
from jaxdiff.posterior.operators.bicubic import bicubic


@dataclasses.dataclass(frozen=True)
class Reduce(Degradation):
    """The mark of the place in a chain where `Degrade` reduces the picture, and the filter by which it does.

    Attributes:
      filter: "area" for the means over squares; "bicubic" for Keys' kernel with antialiasing, as in SR3 (Saharia et al.
        2021, arXiv 2104.07636) and in most tables of super-resolution.
    """

    probability = 1.0
    filter: Literal["area", "bicubic"] = "area"

    def __post_init__(self) -> None:
        one_of("filter", self.filter, ("area", "bicubic"))

    def apply(self, key: Key[Array, ""], image: Float[Array, "h w c"]) -> Float[Array, "h w c"]:
        return image

    def reduced(self, image: Float[Array, "h w c"], factor: int) -> Float[Array, "h/factor w/factor c"]:
        """The picture with both sides smaller by a factor that divides them."""
        if self.filter == "area":
            return reduced(image, factor)
        height, width, _ = image.shape
        small: Array = bicubic((height, width), factor)(image[None])[0]
        return small.astype(jnp.float32)
