"""Which axis of each leaf of a state is spread over devices: a rule for any pytree, and exceptions by name."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from jaxdiff import trees

# Below this many elements a leaf is cheaper to keep whole than to gather.
_SMALL = 2048


def check_overrides(overrides: Mapping[str, str]) -> None:
    """Raises a ValueError unless `overrides` are patterns of names to `none` or the number of an axis."""
    for pattern, axis in overrides.items():
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"overrides = {dict(overrides)}; {pattern!r} is no pattern: {error}") from error
        if axis != "none" and not axis.isdecimal():
            raise ValueError(f"overrides = {dict(overrides)}; allowed are 'none' and the number of an axis")


def sharded_axis(shape: Sequence[int], devices: int) -> int | None:
    """The axis along which a leaf is spread over `devices`: its longest that they divide, the last of equal ones.

    None for a leaf that stays whole: it is small, or no axis fits.
    """
    fitting = [(length, axis) for axis, length in enumerate(shape) if length % devices == 0 and length >= devices]
    if devices == 1 or int(np.prod(shape)) < _SMALL or not fitting:
        return None
    return max(fitting)[1]


def state_shardings(mesh: Mesh, shapes: PyTree, overrides: Mapping[str, str] | None = None) -> PyTree:
    """A sharding over the axis `fsdp` for each leaf of any pytree: by `sharded_axis`, but for what is overridden.

    Args:
      shapes: arrays or `jax.ShapeDtypeStruct`s.
      overrides: patterns (`re.search`) of the leaves' names, such as `label_table` for
        `params.params.conditioning.label_table.embedding`, to the number of an axis, or `none`; the first that matches
        counts.

    Raises:
      ValueError: an override that matches no leaf, or names an axis that a leaf does not have or that the axis
        `fsdp` does not divide.
    """
    devices, unused = mesh.shape["fsdp"], set(overrides or ())

    def sharding(path: Sequence[Any], leaf: Any) -> NamedSharding:
        name, axis = trees.name_of(path), sharded_axis(leaf.shape, devices)
        for pattern, chosen in (overrides or {}).items():
            if re.search(pattern, name):
                unused.discard(pattern)
                axis = None if chosen == "none" else int(chosen)
                if axis is not None and (axis >= len(leaf.shape) or leaf.shape[axis] % devices):
                    raise ValueError(
                        f"parallel.overrides = {dict(overrides or {})}; {name} has shape {tuple(leaf.shape)}, "
                        f"whose axis {axis} cannot be spread over {devices} devices"
                    )
                break
        return NamedSharding(mesh, PartitionSpec(*[None] * axis, "fsdp") if axis is not None else PartitionSpec())

    found = jax.tree_util.tree_map_with_path(sharding, shapes)
    if unused:
        raise ValueError(f"parallel.overrides: no leaf is called like {', '.join(sorted(unused))}")
    return found
