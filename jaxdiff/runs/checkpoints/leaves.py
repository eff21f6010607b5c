"""The leaves of a train state as a checkpoint holds them: named arrays, and a table that describes them.

Orbax takes nested dicts of plain arrays. A typed PRNG key is stored as its raw data, and a Python number as a NumPy
array. An array without elements is not stored. The table records what each leaf was.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import trees
from jaxdiff.checks import require


@dataclasses.dataclass(frozen=True)
class LeafInfo:
    """One leaf as it was saved.

    Attributes:
      shape: its shape; for a PRNG key, that of the array of keys.
      dtype: its type.
      host: whether it was a NumPy array or a Python number, and not a JAX array.
      key_impl: the implementation of a PRNG key; None for other leaves.
      stored_shape: the shape of the stored array, which for a key is its raw data.
      stored_dtype: the type of the stored array.

    Raises:
      ValueError: the stored array is not one of such a leaf.
    """

    shape: tuple[int, ...]
    dtype: str
    host: bool
    key_impl: str | None
    stored_shape: tuple[int, ...]
    stored_dtype: str

    def __post_init__(self) -> None:
        same = (self.stored_shape, self.stored_dtype) == (self.shape, self.dtype)
        # The data of a key have one axis more, of at most eight words.
        data = self.stored_shape[:-1] == self.shape and max(self.stored_shape[len(self.shape) :], default=9) <= 8
        good = min(self.stored_shape, default=0) >= 0 and (data if self.key_impl else same)
        require(good, "stored_shape", self.stored_shape, f"the shape of a stored {self.dtype}{self.shape}")


_KINDS = {
    "shape": list,
    "dtype": str,
    "host": bool,
    "key_impl": str | None,
    "stored_shape": list,
    "stored_dtype": str,
}


def leaf_name(path: Sequence[Any]) -> str:
    """The name of a leaf, from its path as JAX gives it: `params.dense.kernel`. A dot within a word becomes `%2E`."""
    return joined(trees.words_of(path))


def joined(words: Sequence[str]) -> str:
    """The name of the leaf, or of the part of the state, to which these words lead."""
    return ".".join(word.replace("%", "%25").replace(".", "%2E") for word in words)


def stored_name(path: Sequence[Any]) -> str:
    """The name of a leaf, from its path in the dicts of `nest(flat, unescape=False)`."""
    return ".".join(trees.words_of(path))


def words_of(name: str) -> list[str]:
    """The words that `joined` joined."""
    return [word.replace("%2E", ".").replace("%25", "%") for word in name.split(".")]


def nest(flat: Mapping[str, Any], unescape: bool = True) -> dict[str, Any]:
    """Turns `{"a.b": x}` into `{"a": {"b": x}}`.

    Args:
      flat: leaves by name.
      unescape: whether the keys are the original words. Orbax joins keys with dots, so it is given escaped ones.
    """
    tree: dict[str, Any] = {}
    for name, leaf in flat.items():
        *parents, last = words_of(name) if unescape else name.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = leaf
    return tree


def to_named(state: Any) -> tuple[dict[str, Any], dict[str, LeafInfo]]:
    """The stored arrays of a state by name, and the table of its leaves.

    Raises:
      TypeError: a leaf is neither an array of numbers, nor a number, nor a PRNG key.
      ValueError: a leaf has no name of its own, or the state has no array with elements.
    """
    flat: dict[str, Any] = {}
    table: dict[str, LeafInfo] = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]:
        name = leaf_name(path)
        if not all(name.split(".")) or name in table:
            raise ValueError(f"state has a leaf named {name!r}; allowed are unique names without empty words")
        table[name], flat[name] = _to_stored(name, leaf)
    # Orbax refuses arrays without elements. The table alone is enough to restore them.
    flat = {name: leaf for name, leaf in flat.items() if 0 not in table[name].shape}
    if not flat:
        raise ValueError("state has no leaf with elements; allowed are pytrees with at least one")
    return flat, table


def _to_stored(name: str, leaf: Any) -> tuple[LeafInfo, Any]:
    kinds = "arrays of numbers, numbers and PRNG keys"
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = jax.random.key_data(leaf)
        impl = str(jax.random.key_impl(leaf))
        return LeafInfo(leaf.shape, str(leaf.dtype), False, impl, data.shape, str(data.dtype)), data
    if isinstance(leaf, (np.ndarray, np.generic, bool, int, float, complex)):
        array = np.array(leaf)
        if array.dtype.hasobject:
            raise TypeError(f"state.{name}.dtype = {array.dtype}; allowed are {kinds}")
        return LeafInfo(array.shape, str(array.dtype), True, None, array.shape, str(array.dtype)), array
    if isinstance(leaf, jax.Array):
        return LeafInfo(leaf.shape, str(leaf.dtype), False, None, leaf.shape, str(leaf.dtype)), leaf
    raise TypeError(f"state.{name} = {type(leaf).__name__}; allowed are {kinds}")


def read_table(meta: Mapping[str, Any]) -> dict[str, LeafInfo]:
    """The table of leaves from the contents of a `meta.json`.

    Raises:
      ValueError: the table is not one that `to_named` made.
    """
    table = {}
    for name, entry in meta["leaves"].items():
        good = isinstance(entry, dict) and set(entry) == set(_KINDS)
        good = good and all(isinstance(entry[field], kind) for field, kind in _KINDS.items())
        good = good and all(type(n) is int for n in entry["shape"] + entry["stored_shape"])
        if not good:
            raise ValueError(f"leaf {name} is unreadable")
        shapes = {field: tuple(entry[field]) for field in ("shape", "stored_shape")}
        table[name] = LeafInfo(**{**entry, **shapes})
    return table


def misfit(saved: Mapping[str, LeafInfo], wanted: Mapping[str, Any], exact: bool = True) -> str | None:
    """The first difference between the leaves of a checkpoint and of a template, in words; None if they agree.

    Unless `exact`, all types of floating-point numbers agree.
    """
    for name in saved:
        if name not in wanted:
            return f"leaf {name} is in the checkpoint, but not in the template"
    for name, leaf in wanted.items():
        if name not in saved:
            return f"leaf {name} is in the template, but not in the checkpoint"
        info = saved[name]
        array = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
        shape, dtype = tuple(array.shape), str(array.dtype)
        if info.shape != shape:
            return f"leaf {name} has shape {info.shape} in the checkpoint, {shape} in the template"
        if info.dtype != dtype and (exact or "float" not in info.dtype or "float" not in dtype):
            return f"leaf {name} has dtype {info.dtype} in the checkpoint, {dtype} in the template"
    return None


def abstract(info: LeafInfo, template: Any) -> Any:
    """The target into which Orbax reads a leaf: a NumPy array for host leaves, else an array with a sharding."""
    if _wants_numpy(info, template):
        return np.empty(info.stored_shape, jnp.dtype(info.stored_dtype))
    # The raw data of a key have one axis more than the key. An axis that the partition spec lacks is not sharded.
    sharding = getattr(template, "sharding", None) or jnp.zeros(()).sharding
    return jax.ShapeDtypeStruct(info.stored_shape, jnp.dtype(info.stored_dtype), sharding=sharding)


def _wants_numpy(info: LeafInfo, template: Any) -> bool:
    if template is None:
        return info.host
    return not isinstance(template, (jax.Array, jax.ShapeDtypeStruct))


def to_leaf(loaded: Any, info: LeafInfo, template: Any) -> Any:
    """A leaf of the template's kind, from the array that Orbax read; `loaded` is None if the leaf has no elements."""
    if loaded is None:
        loaded = np.zeros(info.stored_shape, jnp.dtype(info.stored_dtype))
        if not _wants_numpy(info, template):
            loaded = jax.device_put(loaded, getattr(template, "sharding", None))
    if info.key_impl is not None:
        return jax.random.wrap_key_data(loaded, impl=info.key_impl)
    if isinstance(template, (np.generic, bool, int, float, complex)):
        return type(template)(loaded)
    return loaded
