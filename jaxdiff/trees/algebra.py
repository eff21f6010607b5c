"""Linear combinations and inner products."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from jaxdiff.arithmetic import root
from jaxdiff.trees.examples import expand, flat
from jaxdiff.trees.structure import wide


def lincomb(coefficients: Sequence[Any], trees: Sequence[PyTree]) -> PyTree:
    """The linear combination `sum_i coefficients[i] * trees[i]`, in float32 or wider.

    Args:
      coefficients: scalars, or arrays `[batch]` with one number per example.
      trees: pytrees of the same structure, leaves `[batch, *event]`.
    """

    def combine(*leaves: Array) -> Array:
        dtype = wide(*leaves)
        terms = [
            expand(c, leaf).astype(dtype) * leaf.astype(dtype) for c, leaf in zip(coefficients, leaves, strict=True)
        ]
        return sum(terms[1:], terms[0])

    return jax.tree.map(combine, *[jax.tree.map(jnp.asarray, tree) for tree in trees])


def event_size(tree: PyTree) -> int:
    """The number of elements of one example."""
    return sum(math.prod(leaf.shape[1:]) for leaf in jax.tree.leaves(tree))


def inner(a: PyTree, b: PyTree) -> Float[Array, " batch"]:
    """The inner product of `a` and `b` over all event axes and all leaves: one number per example."""
    products = [
        jnp.sum(x * y, axis=tuple(range(1, x.ndim)))
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    ]
    return sum(products[1:], products[0])


def mean_square(tree: PyTree) -> Float[Array, " batch"]:
    """The mean of the squares over all event axes and all leaves: one number per example."""
    tree = jax.tree.map(lambda leaf: leaf.astype(wide(leaf)), tree)
    return inner(tree, tree) / event_size(tree)


def std(tree: PyTree) -> Float[Array, " batch"]:
    """The standard deviation of all numbers of one example, unbiased, over all leaves; 0 for a single number."""
    values = flat(tree)
    centred = values - jnp.mean(values, axis=1, keepdims=True)
    return root(jnp.sum(centred**2, axis=1) / max(values.shape[1] - 1, 1))
