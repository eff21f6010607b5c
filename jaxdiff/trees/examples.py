"""The examples of a batch: the first axis of every leaf."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from jaxdiff.checks import message, require
from jaxdiff.trees.structure import wide, words_of


def batch_size(tree: PyTree) -> int:
    """The number of examples: the length of the leading axis that all leaves of `tree` share.

    Raises:
      ValueError: `tree` has no array leaves, a scalar leaf, or leaves of different lengths.
    """
    shapes = [np.shape(leaf) for leaf in jax.tree.leaves(tree)]
    if not shapes or () in shapes or len({shape[0] for shape in shapes}) > 1:
        raise ValueError(message("shapes of x", shapes, "leaves that share one leading batch axis"))
    return shapes[0][0]


def expand(coefficient: Any, leaf: Array) -> Array:
    """Reshapes a scalar or `[batch]` coefficient so that it multiplies a `[batch, *event]` leaf.

    Raises:
      ValueError: the coefficient, or the time that it was computed from, has another shape.
    """
    coefficient = jnp.asarray(coefficient)
    if coefficient.ndim == 0:
        return coefficient
    good = coefficient.shape == leaf.shape[:1]
    require(good, "shape of a time or coefficient", coefficient.shape, f"() and {leaf.shape[:1]}")
    return coefficient.reshape(coefficient.shape + (1,) * (leaf.ndim - 1))


def broadcast_examples(tree: PyTree, batch: int) -> PyTree:
    """Leaves `[1, ...]` or `[batch, ...]` as `[batch, ...]`.

    Args:
      tree: a mapping of names to pytrees, such as the values of conditions.
      batch: the number of examples.

    Raises:
      ValueError: a leaf has another number of values. The error tells the name.
    """

    def expanded(path: Any, leaf: Array) -> Array:
        allowed = f"1 and {batch}, one for each example"
        require(len(leaf) in (1, batch), f"number of values of {words_of(path[:1])[0]}", len(leaf), allowed)
        return jnp.broadcast_to(leaf, (batch, *leaf.shape[1:]))

    return jax.tree_util.tree_map_with_path(expanded, tree)


def interleave(trees: Sequence[PyTree]) -> PyTree:
    """The examples of n pytrees in turn, leaves `[n batch, ...]`: rows n i to n i + n - 1 are examples i of all trees.

    The rows of one example stand side by side, so that they stay on the device of the example.
    """
    return jax.tree.map(lambda *leaves: jnp.stack(leaves, axis=1).reshape(-1, *leaves[0].shape[1:]), *trees)


def deinterleave(tree: PyTree, n: int) -> list[PyTree]:
    """The n pytrees of which `interleave` made `tree`."""
    apart = jax.tree.map(lambda leaf: leaf.reshape(-1, n, *leaf.shape[1:]), tree)
    return [jax.tree.map(lambda leaf, i=i: leaf[:, i], apart) for i in range(n)]


def flat(tree: PyTree) -> Float[Array, "batch n"]:
    """All numbers of each example in one row, in float32 or wider."""
    leaves = jax.tree.leaves(tree)
    return jnp.concatenate([leaf.reshape(len(leaf), -1).astype(wide(*leaves)) for leaf in leaves], axis=1)


def per_example(value: Any, tree: PyTree) -> Float[Array, " batch"]:
    """Broadcasts a scalar or `[batch]` value to `[batch]`, in float32 or the wider type of `tree`."""
    return jnp.broadcast_to(value, (batch_size(tree),)).astype(wide(*jax.tree.leaves(tree)))
