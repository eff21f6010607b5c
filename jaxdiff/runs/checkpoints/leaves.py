"""The leaves of a train state as a checkpoint holds them: named arrays, and a table of what they were.

Orbax takes nested dicts of plain arrays. Typed PRNG keys go in as their raw data, Python numbers as NumPy arrays,
arrays without elements not at all; the table says what each was.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import trees


class LeafInfo(NamedTuple):
    """One leaf as it was saved: logical shape and type, and for a PRNG key its implementation and raw shape.

    `host` tells NumPy arrays and Python numbers from JAX arrays.
    """

    shape: tuple[int, ...]
    dtype: str
    host: bool
    key_impl: str | None
    stored_shape: tuple[int, ...]
    stored_dtype: str


def leaf_name(path: Sequence[Any]) -> str:
    """The name of a leaf, from its path as JAX gives it: `params.dense.kernel`. A dot within a word becomes `%2E`."""
    return ".".join(word.replace("%", "%25").replace(".", "%2E") for word in trees.words_of(path))


def words_of(name: str) -> list[str]:
    """The words that `leaf_name` joined."""
    return [word.replace("%2E", ".").replace("%25", "%") for word in name.split(".")]


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Turns `{"a.b": x}` into `{"a": {"b": x}}`."""
    tree: dict[str, Any] = {}
    for name, leaf in flat.items():
        *parents, last = words_of(name)
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = leaf
    return tree


def to_named(state: Any) -> tuple[dict[str, Any], dict[str, LeafInfo]]:
    """The state as nested dicts of plain arrays, whatever containers it came in, and the table of its leaves."""
    flat: dict[str, Any] = {}
    leaves: dict[str, LeafInfo] = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]:
        name = leaf_name(path)
        if not path:
            raise ValueError(f"state: must be a pytree whose leaves have names, not a single {type(leaf).__name__}")
        if any(not part for part in name.split(".")) or name in leaves:
            raise ValueError(f"state: the leaf name {name!r} is empty somewhere, or belongs to two leaves")
        leaves[name], flat[name] = _to_stored(name, leaf)
    if not leaves:
        raise ValueError("state: holds no arrays")
    for name in leaves:
        parts = name.split(".")
        if any(".".join(parts[:end]) in leaves for end in range(1, len(parts))):
            raise ValueError(f"state: the leaf name {name!r} goes on from the name of another leaf")
    # Orbax refuses arrays without elements: the leaf table alone brings them back.
    return nest({name: leaf for name, leaf in flat.items() if 0 not in leaves[name].shape}), leaves


def _to_stored(name: str, leaf: Any) -> tuple[LeafInfo, Any]:
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = jax.random.key_data(leaf)
        impl = str(jax.random.key_impl(leaf))
        return LeafInfo(leaf.shape, str(leaf.dtype), False, impl, data.shape, str(data.dtype)), data
    if isinstance(leaf, (np.ndarray, np.generic, bool, int, float, complex)):
        array = np.array(leaf)
        if array.dtype.hasobject:
            raise TypeError(f"state leaf {name}: dtype {array.dtype} cannot be saved; arrays of numbers can")
        return LeafInfo(array.shape, str(array.dtype), True, None, array.shape, str(array.dtype)), array
    if isinstance(leaf, jax.Array):
        return LeafInfo(leaf.shape, str(leaf.dtype), False, None, leaf.shape, str(leaf.dtype)), leaf
    raise TypeError(f"state leaf {name}: {type(leaf).__name__} cannot be saved; arrays, numbers and PRNG keys can")


def read_table(meta: Mapping[str, Any]) -> dict[str, LeafInfo]:
    """The table of leaves that a checkpoint's meta.json holds."""
    table = {}
    for name, entry in meta["leaves"].items():
        shapes = {field: tuple(entry[field]) for field in ("shape", "stored_shape")}
        table[name] = LeafInfo(**{**entry, **shapes})
    return table


def misfit(saved: Mapping[str, LeafInfo], wanted: Mapping[str, Any]) -> str | None:
    """The first leaf in which a checkpoint and a template differ, and how; None if they fit."""
    for name in saved:
        if name not in wanted:
            return f"leaf {name} is in the checkpoint, but not in the template"
    for name, leaf in wanted.items():
        if name not in saved:
            return f"leaf {name} is in the template, but not in the checkpoint"
        info = saved[name]
        shape, dtype = describe(leaf)
        if info.shape != shape:
            return f"leaf {name} has shape {info.shape} in the checkpoint, {shape} in the template"
        if info.dtype != dtype:
            return f"leaf {name} has dtype {info.dtype} in the checkpoint, {dtype} in the template"
    return None


def describe(leaf: Any) -> tuple[tuple[int, ...], str]:
    """The shape and the type of a leaf of a template."""
    if not hasattr(leaf, "dtype"):
        leaf = np.asarray(leaf)
    return tuple(leaf.shape), str(leaf.dtype)


def abstract(info: LeafInfo, template: Any) -> Any:
    """What Orbax is to read a leaf into: NumPy for host leaves, else an array of the template's sharding."""
    if _wants_numpy(info, template):
        return np.empty(info.stored_shape, jnp.dtype(info.stored_dtype))
    # A key's raw data has one more axis than the key; a partition spec that is too short leaves it whole.
    sharding = getattr(template, "sharding", None) or jnp.zeros(()).sharding
    return jax.ShapeDtypeStruct(info.stored_shape, jnp.dtype(info.stored_dtype), sharding=sharding)


def _wants_numpy(info: LeafInfo, template: Any) -> bool:
    if template is None:
        return info.host
    return not isinstance(template, (jax.Array, jax.ShapeDtypeStruct))


def to_leaf(loaded: Any, info: LeafInfo, template: Any) -> Any:
    """A leaf as the template wants it, from what Orbax read; None where there was nothing to read."""
    if loaded is None:
        loaded = np.zeros(info.stored_shape, jnp.dtype(info.stored_dtype))
        if not _wants_numpy(info, template):
            loaded = jax.device_put(loaded, getattr(template, "sharding", None))
    if info.key_impl is not None:
        return jax.random.wrap_key_data(loaded, impl=info.key_impl)
    if isinstance(template, (np.generic, bool, int, float, complex)):
        return type(template)(loaded)
    return loaded
