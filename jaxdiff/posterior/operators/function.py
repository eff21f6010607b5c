"""Operators made of a function of one's own."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from jaxdiff import trees
from jaxdiff.checks import integer, require
from jaxdiff.posterior.operators.inverse import normal_equations


@trees.register
@dataclasses.dataclass(frozen=True)
class Function:
    """An operator that is any function. `function` makes it."""

    params: PyTree
    apply: Callable[..., PyTree] = dataclasses.field(metadata={"static": True})

    def __call__(self, x: PyTree) -> PyTree:
        """The observation of `x`."""
        return self.apply(x) if self.params is None else self.apply(self.params, x)


def function(apply: Callable[..., PyTree], params: PyTree = None) -> Function:
    """An operator of any function, which need not be linear: a codec's decoder, a simulation, a classifier's features.

    Args:
      apply: a pure function `x -> y`, or `(params, x) -> y` if `params` are given. Leaves `[batch, *event]` become
        leaves `[batch, *other event]`, and examples do not see each other. It is static: pass the same function object
        again to avoid a new compilation. Methods that follow a gradient need one that can be differentiated.
      params: the numbers of the function, any pytree. They are leaves.

    Raises:
      TypeError: `apply` is not callable.
    """
    require(callable(apply), "apply", apply, "functions x -> y, or (params, x) -> y", TypeError)
    return Function(params, apply)


@trees.register
@dataclasses.dataclass(frozen=True)
class Linear(Function):
    """A linear operator that is any linear function. `linear` makes it."""

    event: tuple[Any, Any] = dataclasses.field(metadata={"static": True})
    iterations: int = dataclasses.field(metadata={"static": True})

    def adjoint(self, y: PyTree) -> PyTree:
        """The product `A^T y`, by transposing the function."""
        structure, shapes = self.event
        batch, dtype = trees.batch_size(y), trees.wide(*jax.tree.leaves(y))
        x = [jax.ShapeDtypeStruct((batch, *shape), dtype) for shape in shapes]
        y = jax.tree.map(lambda leaf: leaf.astype(dtype), y)
        (product,) = jax.linear_transpose(self, jax.tree.unflatten(structure, x))(y)
        return product

    def pseudo_inverse(self, y: PyTree, damping: Any = 0.0) -> PyTree:
        """The damped pseudo-inverse `A^T (A A^T + damping)^-1 y`, by conjugate gradients."""
        return normal_equations(self, y, damping, self.iterations)


def linear(apply: Callable[..., PyTree], event: PyTree, params: PyTree = None, *, iterations: int = 20) -> Linear:
    """A linear operator of a linear function. Its adjoint is the function's transpose.

    The pseudo-inverse comes from conjugate gradients on the normal equations. It is exact after as many iterations as
    the operator has different singular values; before, it is the best x of a Krylov space.

    Args:
      apply: a pure linear function, as for `function`.
      event: the shape of one example of x without the batch, such as `(32, 32, 3)`; or a pytree of arrays or of
        `jax.ShapeDtypeStruct` with such shapes.
      params: the numbers of the function, any pytree. They are leaves.
      iterations: the number of iterations of the pseudo-inverse.

    Raises:
      TypeError: `apply` is not callable.
      ValueError: `iterations` is less than 1.
    """
    require(callable(apply), "apply", apply, "linear functions x -> y, or (params, x) -> y", TypeError)
    integer("iterations", iterations)
    if isinstance(event, tuple) and all(isinstance(side, int) for side in event):
        event = jax.ShapeDtypeStruct(event, jnp.float32)
    leaves, structure = jax.tree.flatten(event)
    return Linear(params, apply, (structure, tuple(tuple(leaf.shape) for leaf in leaves)), int(iterations))
