"""Functions of pytrees that are compiled once, also where the user has not jitted them."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax
import numpy as np

P = ParamSpec("P")
T = TypeVar("T")

_NUMBERS = (jax.Array, np.ndarray, np.generic, bool, int, float, complex)


def jitted(function: Callable[P, T]) -> Callable[P, T]:
    """A function that all calls with the same shapes, and the same static parts, run in one compiled program.

    A loop of JAX whose body is made anew at every call is also compiled anew at every call. This decorator is for the
    functions that hold such loops. Arguments are checked outside of them, where the numbers are known.

    If JAX cannot take an argument, the function itself is called: for a denoiser that is no pytree, or whose static
    part has no hash. Within `jax.jit` the function is a part of the outer program.

    Args:
      function: positional arguments are pytrees of numbers; keyword-only arguments are static.
    """
    static = [
        name for name, p in inspect.signature(function).parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY
    ]
    compiled: Callable[P, T] = jax.jit(function, static_argnames=static, inline=True)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        return (compiled if _can_be_jitted(args) else function)(*args, **kwargs)

    return call


def _can_be_jitted(arguments: Any) -> bool:
    leaves, structure = jax.tree.flatten(arguments)
    try:
        hash(structure)
    except TypeError:
        return False
    return all(isinstance(leaf, _NUMBERS) for leaf in leaves)
