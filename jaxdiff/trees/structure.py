"""What pytrees are made of: structures, shapes, types, and the names of leaves."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxdiff.checks import require


def traced(tree: PyTree) -> bool:
    """Whether JAX is tracing any leaf of `tree`, which may also be a single value."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(tree))


def same_structure(a: PyTree, b: PyTree) -> bool:
    """Whether two pytrees have the same containers, types and static parts."""
    return bool(jax.tree.structure(a) == jax.tree.structure(b))  # type: ignore[operator]


def equal(a: PyTree, b: PyTree) -> bool:
    """Whether two pytrees have the same structure, and arrays of the same type, shape and numbers.

    Nothing is known of an array that JAX is tracing, but that it is equal to itself.
    """

    def same(x: Any, y: Any) -> bool:
        if x is y or traced((x, y)):
            return x is y
        x, y = (np.asarray(jax.device_get(leaf)) for leaf in (x, y))
        return bool(x.dtype == y.dtype and np.array_equal(x, y))

    return same_structure(a, b) and all(map(same, jax.tree.leaves(a), jax.tree.leaves(b)))


class ByValue:
    """A base of dataclasses of numbers, made with `eq=False`, that compare by `equal`.

    The hash is that of the structure, which equal trees share, and needs no number.
    """

    def __eq__(self, other: Any) -> bool:
        return equal(self, other)

    def __hash__(self) -> int:
        return hash((type(self), jax.tree.structure(self)))


def check_alike(name: str, tree: PyTree, like: PyTree) -> None:
    """Raises a ValueError, which calls `tree` by `name`, unless `tree` has the structure and the shapes of `like`."""
    shapes, wanted = (jax.tree.map(np.shape, t) for t in (tree, like))
    require(shapes == wanted, f"shape of {name}", shapes, wanted)


def check_floating(name: str, tree: PyTree) -> None:
    """Raises a TypeError that calls `tree` by `name` unless all of its leaves are floating-point arrays."""
    for dtype in map(jnp.result_type, jax.tree.leaves(tree)):
        floating = jnp.issubdtype(dtype, jnp.floating)
        require(floating, f"{name}.dtype", dtype, "floating-point types", TypeError)


def wide(*leaves: Any) -> Any:
    """The type that sums of `leaves` are computed in: their common type, but at least float32."""
    return jnp.promote_types(jnp.result_type(*leaves), jnp.float32)


def cast_like(tree: PyTree, like: PyTree) -> PyTree:
    """The leaves of `tree` in the types of the leaves of `like`."""
    return jax.tree.map(lambda new, old: new.astype(old.dtype), tree, like)


def words_of(path: Sequence[Any]) -> tuple[str, ...]:
    """The path of a leaf, as JAX gives it, as a tuple of words: `("params", "dense", "kernel")`."""
    return tuple(jax.tree_util.keystr((entry,), simple=True) for entry in path)


def name_of(path: Sequence[Any]) -> str:
    """The name of a leaf, made of its path: `params.dense.kernel`."""
    return ".".join(words_of(path))


def is_stacked(words: Sequence[str]) -> bool:
    """Whether a leaf belongs to a stack of equal layers, whose first axis counts the layers.

    Such a stack is a scope of the name `layers`, or of a name that ends with `_layers`: the leaf
    `layers.attention.qkv.kernel` has the shape `[layers, in, out]`. Moments and averages of the leaf have its name too.

    Args:
      words: the path of the leaf, as `words_of` gives it.
    """
    return any(word == "layers" or word.endswith("_layers") for word in words[:-1])
