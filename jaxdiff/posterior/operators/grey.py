"""Colourisation: the brightness is seen."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxdiff import trees
from jaxdiff.checks import require
from jaxdiff.posterior.operators.operator import OrthogonalRows, check_picture

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as in JPEG
MEAN = (1 / 3, 1 / 3, 1 / 3)


@trees.register
@dataclasses.dataclass(frozen=True)
class Grey(OrthogonalRows):
    """A weighted sum of the channels. `grey` makes it."""

    weights: Float[Array, " c"]

    @property
    def gain(self) -> Float[Array, ""]:
        return jnp.sqrt(jnp.sum(self.weights**2))

    def __call__(self, x: Float[Array, "batch h w c"]) -> Float[Array, "batch h w 1"]:
        check_picture(x, len(self.weights))
        return jnp.sum(x * self.weights, axis=-1, keepdims=True)

    def adjoint(self, y: Float[Array, "batch h w 1"]) -> Float[Array, "batch h w c"]:
        check_picture(y, 1)
        return y * self.weights


def grey(weights: Any = LUMA) -> Grey:
    """The grey-scale picture of a colour picture: a weighted sum of its channels.

    Args:
      weights: the weight of each channel, `[channels]`: `LUMA` for what the eye sees as brightness, or `MEAN`, as in
        Kawar et al. 2022 (DDRM, arXiv 2201.11793). Weights that sum to 1 keep the range of the numbers.

    Raises:
      ValueError: `weights` is not `[channels]`, or all of them are 0.
    """
    weights = jnp.asarray(weights, float)
    good = weights.ndim == 1 and (trees.traced(weights) or np.any(np.asarray(weights) != 0))
    require(good, "weights", weights, "numbers [channels], not all of them 0")
    return Grey(weights)
