"""High dynamic range: bright and dark numbers are seen as the ends of a range."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from jaxdiff import trees
from jaxdiff.checks import require


@trees.register
@dataclasses.dataclass(frozen=True)
class Clip:
    """The product with a number, cut to a range. `clip` makes it."""

    scale: Float[Array, ""]
    low: Float[Array, ""]
    high: Float[Array, ""]

    def __call__(self, x: PyTree) -> PyTree:
        """The observation of `x`."""
        return jax.tree.map(lambda leaf: jnp.clip(self.scale * leaf, self.low, self.high), x)


def clip(scale: Any = 2.0, low: Any = -1.0, high: Any = 1.0) -> Clip:
    """An exposure of high dynamic range: `A x = clip(scale x, low, high)`. It is not linear.

    The defaults are those of Zhang et al. 2024 (DAPS, arXiv 2407.01521) for pictures in [-1, 1]. The derivative is 0
    where x is cut.

    Args:
      scale: a number. It is a leaf, as the others are.
      low, high: the ends of the range.

    Raises:
      ValueError: `low` is not below `high`.
    """
    good = trees.traced((low, high)) or low < high
    require(good, "low", low, f"numbers below high, {high}")
    return Clip(*(jnp.asarray(value, float) for value in (scale, low, high)))
