"""Compressed sensing: a few random projections are seen."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jaxdiff import trees
from jaxdiff.posterior.operators.operator import OrthogonalRows, check_count, check_event


@trees.register
@dataclasses.dataclass(frozen=True)
class Projection(OrthogonalRows):
    """The coordinates along orthonormal rows. `random_projection` makes it."""

    rows: Float[Array, "m d"]
    event: tuple[int, ...] = dataclasses.field(metadata={"static": True})

    @property
    def gain(self) -> Float[Array, ""]:
        return jnp.ones(())

    def __call__(self, x: Float[Array, "batch *event"]) -> Float[Array, "batch m"]:
        check_event(x, self.event)
        return jnp.matmul(x.reshape(len(x), -1), self.rows.T, precision="highest")

    def adjoint(self, y: Float[Array, "batch m"]) -> Float[Array, "batch *event"]:
        return jnp.matmul(y, self.rows, precision="highest").reshape(len(y), *self.event)


def random_projection(key: Key[Array, ""], event: tuple[int, ...], count: int) -> Projection:
    """The projections of the flattened x onto `count` random directions, which are orthonormal.

    The directions span a uniformly distributed subspace. They take `count` times the memory of one example.

    Args:
      key: one key, with which the directions are drawn.
      event: the shape of one example, such as `(32, 32, 3)`. Static.
      count: the number of directions. Static.

    Raises:
      ValueError: `count` is not from 1 to the number of coordinates.
    """
    check_count(event, count)
    rows = jnp.linalg.qr(jax.random.normal(key, (math.prod(event), count), float))[0].T
    return Projection(rows, tuple(event))
