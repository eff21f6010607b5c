"""Pictures without their colours, for models that give colours."""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jaxdiff.augmentations.degradations.degradation import Degradation
from jaxdiff.checks import fraction, require
from jaxdiff.posterior.operators.grey import LUMA


@dataclasses.dataclass(frozen=True)
class Grey(Degradation):
    """The brightness of the picture in all three channels, as the posterior's `operators.grey` sees it.

    Saharia et al. 2022 (Palette, arXiv 2111.05826), section 4.1.

    Attributes:
      probability: the probability that the picture loses its colours.
    """

    probability: float = 1.0

    def __post_init__(self) -> None:
        fraction("probability", self.probability)

    @property
    def task(self) -> str:
        return "colorize"

    def check(self, shape: tuple[int, ...]) -> None:
        require(shape[-1] == 3, "shape of the picture", shape, "[h, w, 3]: red, green and blue")

    def apply(self, key: Key[Array, ""], image: Float[Array, "h w c"]) -> Float[Array, "h w c"]:
        brightness = jnp.sum(image * jnp.asarray(LUMA), axis=-1, keepdims=True)
        return jnp.broadcast_to(brightness, image.shape)
