"""Functions of pytrees that are compiled once, also where the user has not jitted them."""

import dataclasses
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


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Plain:
    """A plain function as a pytree without leaves. `as_pytree` makes it."""

    function: Callable[..., Any]

    def __call__(self, *args: Any) -> Any:
        return self.function(*args)


def as_pytree(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of the user as an argument of functions that are `jitted`.

    A callable pytree, such as a registered dataclass, stays as it is: its numbers are leaves, and are traced. A plain
    function becomes a pytree without leaves. It is static, so that numbers in it are compiled into the program, and
    another function object is compiled anew.
    """
    leaves = jax.tree.leaves(function)
    return Plain(function) if len(leaves) == 1 and leaves[0] is function else function


def _can_be_jitted(arguments: Any) -> bool:
    leaves, structure = jax.tree.flatten(arguments)
    try:
        hash(structure)
    except TypeError:
        return False
    return all(isinstance(leaf, _NUMBERS) for leaf in leaves)
