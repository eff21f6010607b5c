"""Compressed sensing: some coefficients of a Walsh-Hadamard transform are seen."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from jaxdiff import trees
from jaxdiff.posterior.operators.operator import OrthogonalRows, check_count, check_event


@trees.register
@dataclasses.dataclass(frozen=True)
class Hadamard(OrthogonalRows):
    """Some coefficients of the Walsh-Hadamard transform. `hadamard` makes it."""

    rows: Int[Array, " m"]
    event: tuple[int, ...] = dataclasses.field(metadata={"static": True})

    @property
    def gain(self) -> Float[Array, ""]:
        return jnp.ones(())

    def __call__(self, x: Float[Array, "batch *event"]) -> Float[Array, "batch m"]:
        check_event(x, self.event)
        return walsh_hadamard(x.reshape(len(x), -1))[:, self.rows]

    def adjoint(self, y: Float[Array, "batch m"]) -> Float[Array, "batch *event"]:
        full = jnp.zeros((len(y), math.prod(self.event)), y.dtype).at[:, self.rows].set(y)
        return walsh_hadamard(full).reshape(len(y), *self.event)


def walsh_hadamard(x: Float[Array, "batch d"]) -> Float[Array, "batch d"]:
    """The orthonormal Walsh-Hadamard transform of each row, in `d log d` additions. It is its own inverse.

    With n the largest power of two that divides d, x is read as `[n, d / n]`. The transform is along the first axis.
    For a picture with three channels, it is along the pixels of each channel.
    """
    batch, d = x.shape
    n = d & -d
    x = x.reshape(batch, n, d // n)
    stride = 1
    while stride < n:
        pairs = x.reshape(batch, n // (2 * stride), 2, stride, d // n)
        x = jnp.stack([pairs[:, :, 0] + pairs[:, :, 1], pairs[:, :, 0] - pairs[:, :, 1]], axis=2)
        stride *= 2
    return x.reshape(batch, d) / math.sqrt(n)


def hadamard(key: Key[Array, ""], event: tuple[int, ...], count: int) -> Hadamard:
    """Random coefficients of the Walsh-Hadamard transform of the flattened x.

    Kawar et al. 2022 (DDRM, arXiv 2201.11793) see the same coefficients in each channel. Here the
    coefficients are drawn for all channels together. If the size of an example is odd, nothing is transformed.

    Args:
      key: one key, with which the coefficients are chosen.
      event: the shape of one example, such as `(32, 32, 3)`. Static.
      count: the number of coefficients. Static.

    Raises:
      ValueError: `count` is not from 1 to the number of coordinates.
    """
    check_count(event, count)
    rows = jax.random.choice(key, math.prod(event), (count,), replace=False)
    return Hadamard(rows, tuple(event))
