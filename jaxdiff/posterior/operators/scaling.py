"""Denoising: all of x is seen, multiplied by a number."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from jaxdiff import trees
from jaxdiff.checks import positive
from jaxdiff.posterior.operators.operator import Diagonal


@trees.register
@dataclasses.dataclass(frozen=True)
class Scaling(Diagonal):
    """The product with a number above 0. `scaling` and `identity` make it."""

    scale: Float[Array, ""]

    def singular_values(self, z: PyTree) -> PyTree:
        return jax.tree.broadcast(self.scale, z)


def scaling(scale: Any) -> Scaling:
    """The product of x with a number above 0, which is a leaf.

    Raises:
      ValueError: `scale` is not a finite number above 0.
    """
    if not trees.traced(scale):
        positive("scale", scale)
    return Scaling(jnp.asarray(scale, float))


def identity() -> Scaling:
    """All of x is seen as it is: the observation is x and noise."""
    return scaling(1.0)
