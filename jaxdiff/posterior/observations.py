"""Observations `y = A(x0) + std z`: what all methods have in common."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from jaxdiff import trees
from jaxdiff.checks import require


def difference(observation: PyTree, value: PyTree) -> PyTree:
    """Returns `y - a` for the value a of an operator, leaves `[batch, *event]`.

    Raises:
      ValueError: `observation` has neither the shapes of `value` nor one row for all of its rows.
    """
    check_observation(observation, value)
    return jax.tree.map(lambda y, a: y.astype(trees.wide(y, a)) - a, observation, value)


def check_observation(observation: PyTree, value: PyTree) -> None:
    """Raises a ValueError unless `observation` has the shapes of an operator's `value`, or one row for the batch."""
    require(
        trees.same_structure(observation, value),
        "structure of observation",
        jax.tree.structure(observation),
        f"{jax.tree.structure(value)}, as operator(x)",
    )
    for y, a in zip(jax.tree.leaves(observation), jax.tree.leaves(value), strict=True):
        one = (1, *a.shape[1:])
        require(y.shape in (a.shape, one), "observation.shape", y.shape, f"{a.shape} and {one}, as operator(x)")


def seen(operator: Callable[[PyTree], PyTree], observation: PyTree) -> PyTree:
    """Returns the observation as arrays, with 0 where a mask hides it.

    Raises:
      TypeError: `operator` is not callable.
    """
    require(callable(operator), "operator", operator, "functions x -> y, such as operators.mask(...)", TypeError)
    hide = getattr(operator, "hide", lambda y: y)
    return hide(jax.tree.map(jnp.asarray, observation))


def check_std(std: Any, *, zero: bool = False) -> Float[Array, "*batch"]:
    """Returns the standard deviation of an observation's noise as an array, `()` or `[batch]`.

    Args:
      std: finite numbers above 0, in the units of the data that the model sees.
      zero: whether 0 is allowed too.

    Raises:
      ValueError: the numbers or the shape are others.
    """
    good = trees.traced(std) or np.all(np.isfinite(std) & (np.asarray(std) >= 0) & (zero | (np.asarray(std) > 0)))
    require(good, "std", std, "finite numbers of at least 0" if zero else "finite numbers above 0")
    std = jnp.asarray(std, float)
    require(std.ndim <= 1, "std.shape", std.shape, "() and [batch]")
    return std
