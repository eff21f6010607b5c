"""The axis along which each leaf of a state is sharded: a rule for any pytree, and exceptions by name."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from jaxdiff import trees
from jaxdiff.checks import message

# A leaf with fewer elements is cheaper to keep whole than to gather.
_SMALL = 2048


def check_overrides(overrides: Mapping[str, str]) -> None:
    """Raises a ValueError unless `overrides` maps regular expressions to `none` or to the number of an axis."""
    for pattern, axis in overrides.items():
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"overrides = {pattern!r}; allowed are regular expressions: {error}") from error
        if axis != "none" and not axis.isdecimal():
            raise ValueError(message(f"overrides[{pattern!r}]", axis, "'none' and the number of an axis"))


def sharded_axis(shape: Sequence[int], devices: int, stacked: bool = False) -> int | None:
    """The axis along which a leaf is sharded over `devices`.

    This is the longest axis whose length is a multiple of `devices`; of equally long axes, the last one. A leaf that is
    small or has no such axis stays whole, and the result is None. In a transformer the longest axis of the projection
    to queries, keys and values is that of the heads, and the longest axis of both kernels of a feed-forward layer is
    the hidden one.

    Args:
      shape: the shape of the leaf.
      devices: the number of devices.
      stacked: whether the first axis counts layers (`trees.is_stacked`). A loop over layers takes one layer at a time,
        so that this axis is not sharded.
    """
    axes = list(enumerate(shape))[int(stacked) :]
    fitting = [(length, axis) for axis, length in axes if length % devices == 0 and length >= devices]
    if devices == 1 or int(np.prod(shape)) < _SMALL or not fitting:
        return None
    return max(fitting)[1]


def state_shardings(mesh: Mesh, shapes: PyTree, overrides: Mapping[str, str] | None = None) -> PyTree:
    """The sharding over the axis `fsdp` of each leaf of a pytree: by `sharded_axis`, or as overridden.

    Args:
      mesh: the devices, with the axes `data` and `fsdp`.
      shapes: arrays or `jax.ShapeDtypeStruct`s.
      overrides: regular expressions (`re.search`) for names of leaves, mapped to the number of an axis or to `none`.
        The first expression that matches counts. For instance, `label_table` matches
        `params.params.conditioning.label_table.embedding`.

    Raises:
      ValueError: an override matches no leaf; or a leaf does not have its axis, or the length of the axis is not a
        multiple of the number of devices.
    """
    devices, unused = mesh.shape["fsdp"], set(overrides or ())

    def sharding(path: Sequence[Any], leaf: Any) -> NamedSharding:
        name = trees.name_of(path)
        axis = sharded_axis(leaf.shape, devices, trees.is_stacked(trees.words_of(path)))
        for pattern, chosen in (overrides or {}).items():
            if re.search(pattern, name):
                unused.discard(pattern)
                axis = None if chosen == "none" else int(chosen)
                if axis is not None and (axis >= len(leaf.shape) or leaf.shape[axis] % devices):
                    raise ValueError(
                        f"parallel.overrides[{pattern!r}] = {chosen!r}; allowed are 'none' and axes that {devices} "
                        f"devices divide: {name} has the shape {tuple(leaf.shape)}"
                    )
                break
        return NamedSharding(mesh, PartitionSpec(*[None] * axis, "fsdp") if axis is not None else PartitionSpec())

    found = jax.tree_util.tree_map_with_path(sharding, shapes)
    if unused:
        raise ValueError(f"parallel.overrides = {', '.join(sorted(unused))}; allowed are patterns that match a leaf")
    return found
