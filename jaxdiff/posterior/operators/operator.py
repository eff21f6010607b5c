"""The interfaces of operators, and the classes that linear operators are made of."""

import math
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from jaxdiff import trees
from jaxdiff.checks import integer, require


class Operator(Protocol):
    """What an instrument sees: a function from data to observations. Any pure function of arrays is one."""

    def __call__(self, x: PyTree) -> PyTree:
        """The observation of `x`, without noise: leaves `[batch, *event]` to leaves `[batch, *other event]`."""


class LinearOperator(Operator, Protocol):
    """An operator A that is linear."""

    def adjoint(self, y: PyTree) -> PyTree:
        """The product `A^T y`."""

    def pseudo_inverse(self, y: PyTree, damping: Any = 0.0) -> PyTree:
        """The damped pseudo-inverse `A^T (A A^T + damping)^-1 y`; without damping, its limit `A^+ y`.

        Args:
          damping: at least 0; a number, or `[batch]`.
        """


class Spectral:
    """A linear operator by its singular value decomposition, `A = U S V^T`.

    A subclass defines five methods. Their coordinates z are a pytree of any structure. `vt` keeps inner products, and
    `v` undoes it. `ut` gives the coordinates of an observation, and 0 where no observation has one. Coordinates may be
    complex, and there may be more of them than numbers in x. The sums and products of methods such as DDRM go
    coordinate by coordinate, with real factors that depend on the singular value alone. They stay right.
    """

    def vt(self, x: PyTree) -> PyTree:
        """The coordinates `V^T x`."""
        raise TypeError(f"{type(self).__name__} does not define vt(x)")

    def v(self, z: PyTree) -> PyTree:
        """The data `V z`."""
        raise TypeError(f"{type(self).__name__} does not define v(z)")

    def ut(self, y: PyTree) -> PyTree:
        """The coordinates `U^T y`, of the structure of `V^T x`."""
        raise TypeError(f"{type(self).__name__} does not define ut(y)")

    def u(self, z: PyTree) -> PyTree:
        """The observation `U z`."""
        raise TypeError(f"{type(self).__name__} does not define u(z)")

    def singular_values(self, z: PyTree) -> PyTree:
        """The singular values, at least 0, of the structure of coordinates `z`. They broadcast with its leaves."""
        raise TypeError(f"{type(self).__name__} does not define singular_values(z)")

    def __call__(self, x: PyTree) -> PyTree:
        """The observation `A x`."""
        z = self.vt(x)
        return self.u(jax.tree.map(jnp.multiply, self.singular_values(z), z))

    def adjoint(self, y: PyTree) -> PyTree:
        """The product `A^T y`."""
        z = self.ut(y)
        return self.v(jax.tree.map(jnp.multiply, self.singular_values(z), z))

    def pseudo_inverse(self, y: PyTree, damping: Any = 0.0) -> PyTree:
        """The damped pseudo-inverse `A^T (A A^T + damping)^-1 y`; without damping, its limit `A^+ y`.

        Args:
          y: the observation.
          damping: at least 0; a number, or `[batch]`.
        """
        z = self.ut(y)
        return self.v(jax.tree.map(lambda s, z: _inverse(s, damping, z) * z, self.singular_values(z), z))


def _inverse(s: Array, damping: Any, z: Array) -> Array:
    square = s**2 + trees.expand(damping, z)
    return jnp.where(s > 0, s / jnp.where(square > 0, square, 1.0), 0.0)


class Diagonal(Spectral):
    """A linear operator that multiplies each number by a factor. A subclass defines `singular_values`: the factors."""

    def vt(self, x: PyTree) -> PyTree:
        return x

    def v(self, z: PyTree) -> PyTree:
        return z

    def ut(self, y: PyTree) -> PyTree:
        return y

    def u(self, z: PyTree) -> PyTree:
        return z


class Seen(NamedTuple):
    """The coordinates of an operator with orthogonal rows.

    Attributes:
      seen: the coordinates along the rows, of the shape of an observation.
      rest: the part of x that the operator does not see, of the shape of x.
    """

    seen: PyTree
    rest: PyTree


class OrthogonalRows(Spectral):
    """A linear operator whose rows are orthogonal and have the same norm: `A A^T = gain^2`.

    A subclass defines `gain`, `__call__` and `adjoint`. The coordinates are `(A x / gain, x - A^T A x / gain^2)`.
    """

    @property
    def gain(self) -> Float[Array, ""]:
        """The only singular value above 0."""
        raise TypeError(f"{type(self).__name__} does not define gain")

    def __call__(self, x: PyTree) -> PyTree:
        raise TypeError(f"{type(self).__name__} does not define __call__(x)")

    def adjoint(self, y: PyTree) -> PyTree:
        raise TypeError(f"{type(self).__name__} does not define adjoint(y)")

    def vt(self, x: PyTree) -> Seen:
        y = self(x)
        rest = trees.lincomb((1.0, -1 / self.gain**2), (x, self.adjoint(y)))
        return Seen(trees.lincomb((1 / self.gain,), (y,)), rest)

    def v(self, z: Seen) -> PyTree:
        return trees.lincomb((1 / self.gain, 1.0), (self.adjoint(z.seen), z.rest))

    def ut(self, y: PyTree) -> Seen:
        return Seen(y, jax.tree.map(jnp.zeros_like, self.adjoint(y)))

    def u(self, z: Seen) -> PyTree:
        return z.seen

    def singular_values(self, z: Seen) -> Seen:
        return Seen(jax.tree.map(lambda _: self.gain, z.seen), jax.tree.map(lambda _: jnp.zeros(()), z.rest))


def check_picture(x: Any, channels: int | None = None) -> None:
    """Raises a ValueError unless `x` is a batch of pictures `[batch, height, width, channels]`."""
    wanted = "channels" if channels is None else channels
    good = x.ndim == 4 and channels in (None, x.shape[-1])
    require(good, "x.shape", x.shape, f"[batch, height, width, {wanted}]")


def check_event(x: Array, event: tuple[int, ...]) -> None:
    """Raises a ValueError unless `x` is a batch of events of a shape."""
    require(x.shape[1:] == event, "x.shape", x.shape, f"[batch, *event] with event {event}")


def check_count(event: tuple[int, ...], count: int) -> None:
    """Raises a ValueError unless an event has at least `count` numbers, and `count` is at least 1."""
    integer("count", count, most=math.prod(event))
