"""Inpainting: some of the numbers are seen."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxdiff import trees
from jaxdiff.checks import require
from jaxdiff.posterior.operators.operator import Diagonal


@trees.register
@dataclasses.dataclass(frozen=True)
class Mask(Diagonal):
    """The product with a mask. `mask` makes it."""

    values: PyTree

    def singular_values(self, z: PyTree) -> PyTree:
        values = jax.tree.broadcast(self.values, z)
        jax.tree.map(_check, values, z)
        return values

    def hide(self, y: PyTree) -> PyTree:
        """The observation with 0 where the mask is 0, whatever it holds there."""
        values = jax.tree.broadcast(self.values, y)
        return jax.tree.map(lambda mask, y: jnp.where(mask > 0, y, 0.0), values, y)


def _check(values: jax.Array, x: jax.Array) -> None:
    try:
        fits = np.broadcast_shapes(values.shape, x.shape) == x.shape
    except ValueError:
        fits = False
    require(fits, "mask.shape", values.shape, f"shapes that broadcast to that of x, {x.shape}")


def mask(values: PyTree) -> Mask:
    """Inpainting: the product of x with a mask, `A x = mask x`, of the shape of x.

    Where the mask is 0, an observation says nothing, whatever number it holds there.

    Args:
      values: 1 where x is seen and 0 where it is not; booleans, or numbers of at least 0. The shape broadcasts to that
        of x: `[height, width, 1]` for pictures, `[batch, height, width, 1]` for a mask per picture. For data that are
        a pytree: a pytree of such arrays, one array for each part of x.

    Raises:
      ValueError: a number is negative or not finite. When the operator is called: the shape does not fit.
    """
    good = all(trees.traced(v) or np.all(np.isfinite(v) & (np.asarray(v) >= 0)) for v in jax.tree.leaves(values))
    require(good, "mask", values, "finite numbers of at least 0")
    return Mask(jax.tree.map(lambda leaf: jnp.asarray(leaf, trees.wide(jnp.asarray(leaf))), values))
