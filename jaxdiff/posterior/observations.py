"""Observations `y = A(x0) + std z`: what the samplers of a posterior have in common."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from jaxdiff import trees
from jaxdiff.checks import require


def residual(operator: Callable[[PyTree], PyTree], observation: PyTree, x0: PyTree) -> PyTree:
    """Returns `y - A(x0)`, leaves `[batch, *event]`.

    Raises:
      ValueError: `observation` is neither of the shape of `operator(x0)` nor has one row for all of its rows.
    """
    predicted = operator(x0)

    def subtract(y: Array, a: Array) -> Array:
        good = y.shape in (a.shape, (1, *a.shape[1:]))
        require(good, "observation.shape", y.shape, f"{a.shape} and {(1, *a.shape[1:])}, as operator(x)")
        return y.astype(trees.wide(a)) - a

    return jax.tree.map(subtract, observation, predicted)


def check_std(std: Any) -> Float[Array, "*batch"]:
    """Returns a standard deviation as an array; raises a ValueError unless it is `()` or `[batch]` and above 0."""
    std = jnp.asarray(std, float)
    require(std.ndim <= 1, "std.shape", std.shape, "() and [batch]")
    require(trees.traced(std) or np.all(np.asarray(std) > 0), "std", std, "numbers above 0")
    return std
