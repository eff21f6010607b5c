"""Random numbers of the shape of a pytree."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree

from jaxdiff.trees.examples import batch_size
from jaxdiff.trees.keys import check_keys, split
from jaxdiff.trees.structure import wide


def normal_like(key: Key[Array, "*batch"], tree: PyTree) -> PyTree:
    """Independent standard normal noise of the shape of `tree`, in float32 or wider.

    With one key per example, the noise of example i depends only on `key[i]`. It depends neither on the other examples
    of the batch nor on the devices that hold them.

    Args:
      key: one key, or one key per example (`[batch]`).
      tree: leaves `[batch, *event]`: arrays, or anything else with `shape` and `dtype`.

    Raises:
      ValueError: the shape of `key` is neither `()` nor `[batch]`.
    """
    leaves, structure = jax.tree.flatten(tree)
    if key.ndim:
        check_keys(key, batch_size(tree))

    def draw(key: Key[Array, "*batch"], leaf: Any) -> Float[Array, "batch *event"]:
        dtype = wide(leaf.dtype)
        if key.ndim:
            return jax.vmap(lambda k: jax.random.normal(k, leaf.shape[1:], dtype))(key)
        return jax.random.normal(key, leaf.shape, dtype)

    return jax.tree.unflatten(structure, [draw(k, x) for k, x in zip(split(key, len(leaves)), leaves, strict=True)])


def rademacher_like(key: Key[Array, "*batch"], tree: PyTree) -> PyTree:
    """Independent random signs, -1 or 1, of the shape of `tree`: the signs of `normal_like(key, tree)`."""
    return jax.tree.map(lambda v: jnp.where(v < 0, -1.0, 1.0).astype(v.dtype), normal_like(key, tree))


def uniform(key: Key[Array, "*batch"], size: int, dtype: Any) -> Float[Array, " size"]:
    """Independent numbers, uniform in [0, 1): one per example, from one key or from one key per example."""
    if not key.ndim:
        return jax.random.uniform(key, (size,), dtype)
    check_keys(key, size)
    return jax.vmap(lambda k: jax.random.uniform(k, (), dtype))(key)
