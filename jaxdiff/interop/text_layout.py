"""The names of the arrays of text encoders, which are tables and equal blocks."""

import re
from collections.abc import Mapping

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from jaxdiff.interop.layout import Layout

_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias"}


def block_names(places: Mapping[str, str], block: str, layers: Mapping[str, tuple[str, ...]]) -> Layout:
    """The layout of a text encoder.

    Args:
      places: the names there of the arrays outside of blocks, by their names here.
      block: the beginning of the names there of block `{}`.
      layers: the names there of the layers of a block, by their names here. Several layers there are one here, such as
        queries, keys and values.
    """

    def names(name: str) -> tuple[str, ...]:
        found = re.fullmatch(r"block_(\d+)_(.+)\.(\w+)", name)
        if found is None:
            return (places[name],)
        number, layer, leaf = found.groups()
        return tuple(f"{block.format(number)}.{foreign}.{_LEAVES[leaf]}" for foreign in layers[layer])

    return names


def first_text() -> tuple[Int[Array, "1 1"], Bool[Array, "1 1"]]:
    """A text of one token, from which a network makes the shapes of its variables."""
    return jnp.zeros((1, 1), int), jnp.ones((1, 1), bool)
