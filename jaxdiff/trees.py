"""Broadcasting, linear combinations and noise over pytrees: the only way the core touches data. And leaves by name."""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PyTree

T = TypeVar("T")


def register(cls: type[T]) -> type[T]:
    """Makes a dataclass a pytree: its fields are children, those with the metadata `static=True` part of the structure.

    It is what `jax.tree_util.register_dataclass` is for, whose structures compare equal whatever their class (JAX 0.10
    to 0.12): two processes with as many numbers may then share a program compiled for one of them.
    """
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    children = tuple(field.name for field in fields if not field.metadata.get("static"))
    static = tuple(field.name for field in fields if field.metadata.get("static"))

    def flatten(node: T) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        return tuple(getattr(node, name) for name in children), tuple(getattr(node, name) for name in static)

    def flatten_with_keys(node: T) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        return (
            tuple((jax.tree_util.GetAttrKey(name), getattr(node, name)) for name in children),
            tuple(getattr(node, name) for name in static),
        )

    def unflatten(values: tuple[Any, ...], leaves: Iterable[Any]) -> T:
        node = object.__new__(cls)  # `__init__` may check and convert, which placeholders do not bear
        for name, value in (*zip(children, leaves, strict=True), *zip(static, values, strict=True)):
            object.__setattr__(node, name, value)
        return node

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    return cls


def as_key(key: Any) -> Key[Array, "*batch"]:
    """Returns `key` as a typed key array: one key, or one key per example.

    Old-style `uint32` keys (`[2]`, or `[batch, 2]`) are wrapped.

    Raises:
      TypeError: `key` is not a JAX random key.
      ValueError: `key` has more than one axis.
    """
    dtype = getattr(key, "dtype", None)
    if dtype == np.uint32 and key.ndim >= 1:
        key = jax.random.wrap_key_data(key)
    elif dtype is None or not jnp.issubdtype(dtype, jax.dtypes.prng_key):
        raise TypeError(f"key = {key!r} is not a random key; make one with jax.random.key(seed)")
    if key.ndim > 1:
        raise ValueError(f"key has shape {key.shape}; allowed are () and [batch]")
    return key


def fold_in(key: Key[Array, "*batch"], data: Any) -> Key[Array, "*batch"]:
    """`jax.random.fold_in` for one key or for one key per example."""
    return jax.vmap(jax.random.fold_in, (0, None))(key, data) if key.ndim else jax.random.fold_in(key, data)


def split(key: Key[Array, "*batch"], number: int) -> list[Key[Array, "*batch"]]:
    """`number` independent keys, each of the shape of `key`."""
    return [fold_in(key, i) for i in range(number)]


def example_keys(key: Any, batch: int) -> Key[Array, " batch"]:
    """One key per example.

    Args:
      key: one key, of which example i gets `fold_in(key, i)`; or one key per example `[batch]`, returned as is.
      batch: number of examples.

    Raises:
      TypeError: `key` is not a JAX random key.
      ValueError: `key` is neither one key nor as long as the batch.
    """
    key = as_key(key)
    if key.ndim == 0:
        return jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(batch))
    if key.shape != (batch,):
        raise ValueError(f"key has shape {key.shape}; allowed are () and ({batch},), one key per example")
    return key


@register
@dataclasses.dataclass(frozen=True)
class BatchKey:
    """The randomness of a batch, or of a part of one that is spread over devices: what an example draws depends on
    `key` and on its place in the whole batch, and on nothing else.

    Attributes:
      key: one key for the whole batch.
      index: the places in the whole batch of the examples at hand.
      size: the number of examples in the whole batch.
    """

    key: Key[Array, ""]
    index: Int[Array, " batch"]
    size: int = dataclasses.field(metadata={"static": True})

    def each(self, number: int) -> Key[Array, " batch"]:
        """One key per example at hand; another `number`, other keys."""
        return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.fold_in(self.key, number), self.index)


def batch_key(key: "Key[Array, ''] | BatchKey", size: int) -> BatchKey:
    """`key` as the randomness of `size` examples: one key is that of a whole batch.

    Raises:
      TypeError: `key` is neither.
      ValueError: `key` has an axis, or is that of another number of examples.
    """
    if not isinstance(key, BatchKey):
        key = as_key(key)
        if key.ndim:
            raise ValueError(f"key has shape {key.shape}; allowed is one key for the batch, or a BatchKey")
        return BatchKey(key, jnp.arange(size), size)
    if key.index.shape != (size,):
        raise ValueError(f"key is that of examples {key.index.shape}; the batch has {size}")
    return key


def batch_size(tree: PyTree) -> int:
    """The length of the leading axis that all leaves of `tree` share.

    Raises:
      ValueError: `tree` has no array leaves, a scalar leaf, or leaves of different lengths.
    """
    shapes = [np.shape(leaf) for leaf in jax.tree.leaves(tree)]
    if not shapes or () in shapes or len({shape[0] for shape in shapes}) > 1:
        raise ValueError(f"x has leaves of shapes {shapes}; allowed are leaves that share one leading batch axis")
    return shapes[0][0]


def expand(coefficient: Any, leaf: Array) -> Array:
    """A scalar or `[batch]` coefficient, shaped to multiply the `[batch, *event]` leaf.

    Raises:
      ValueError: another shape; of a time, say, from which the coefficient was made.
    """
    coefficient = jnp.asarray(coefficient)
    if coefficient.ndim == 0:
        return coefficient
    if coefficient.shape != leaf.shape[:1]:
        raise ValueError(f"a time or coefficient has shape {coefficient.shape}; allowed are () and {leaf.shape[:1]}")
    return coefficient.reshape(coefficient.shape + (1,) * (leaf.ndim - 1))


def per_example(value: Any, tree: PyTree) -> Float[Array, " batch"]:
    """A scalar or `[batch]` time input as `[batch]`, in the type that `tree` is computed in."""
    return jnp.broadcast_to(value, (batch_size(tree),)).astype(wide(*jax.tree.leaves(tree)))


def wide(*leaves: Any) -> Any:
    """The type that sums of `leaves` are kept in: their common one, and never narrower than float32."""
    return jnp.promote_types(jnp.result_type(*leaves), jnp.float32)


def lincomb(coefficients: Sequence[Any], trees: Sequence[PyTree]) -> PyTree:
    """`sum_i coefficients[i] * trees[i]`, in float32 or wider.

    Args:
      coefficients: scalars, or arrays `[batch]` with one number per example.
      trees: pytrees of one structure with leaves `[batch, *event]`.
    """

    def combine(*leaves: Array) -> Array:
        dtype = wide(*leaves)
        terms = [
            expand(c, leaf).astype(dtype) * leaf.astype(dtype) for c, leaf in zip(coefficients, leaves, strict=True)
        ]
        return sum(terms[1:], terms[0])

    return jax.tree.map(combine, *[jax.tree.map(jnp.asarray, tree) for tree in trees])


def normal_like(key: Key[Array, "*batch"], tree: PyTree) -> PyTree:
    """Independent standard normal noise of the shape of `tree`, in float32 or wider.

    With one key per example (`key.shape == [batch]`) the noise of example i is a function of `key[i]` alone: it does
    not depend on the batch that i is drawn in, nor on the devices the batch is spread over.

    Args:
      key: one key, or one key per example.
      tree: arrays, or anything with `shape` and `dtype`, `[batch, *event]`.

    Raises:
      ValueError: `key` is neither one key nor as long as the batch.
    """
    leaves, structure = jax.tree.flatten(tree)
    if key.ndim and key.shape != (batch_size(tree),):
        raise ValueError(f"key has shape {key.shape}; allowed are () and ({batch_size(tree)},), one key per example")

    def draw(key: Key[Array, "*batch"], leaf: Any) -> Float[Array, "batch *event"]:
        dtype = wide(leaf.dtype)
        if key.ndim:
            return jax.vmap(lambda k: jax.random.normal(k, leaf.shape[1:], dtype))(key)
        return jax.random.normal(key, leaf.shape, dtype)

    return jax.tree.unflatten(structure, [draw(k, x) for k, x in zip(split(key, len(leaves)), leaves, strict=True)])


def event_size(tree: PyTree) -> int:
    """How many numbers an example has."""
    return sum(math.prod(leaf.shape[1:]) for leaf in jax.tree.leaves(tree))


def mean_square(tree: PyTree) -> Float[Array, " batch"]:
    """The mean over all event axes, and over all leaves, of the squares: one number per example."""
    leaves = jax.tree.leaves(tree)
    sums = [jnp.sum(jnp.square(leaf.astype(wide(leaf))), axis=tuple(range(1, leaf.ndim))) for leaf in leaves]
    return sum(sums[1:], sums[0]) / event_size(tree)


def same_structure(a: PyTree, b: PyTree) -> bool:
    """Whether two pytrees have the same containers, types and static parts."""
    return bool(jax.tree.structure(a) == jax.tree.structure(b))  # type: ignore[operator]


def check_alike(name: str, tree: PyTree, like: PyTree) -> None:
    """Raises a ValueError that calls `tree` by `name` unless it has the structure and shapes of `like`."""
    shapes, wanted = (jax.tree.map(np.shape, t) for t in (tree, like))
    if shapes != wanted:
        raise ValueError(f"{name} has shapes {shapes}; allowed are those of x, {wanted}")


def words_of(path: Sequence[Any]) -> tuple[str, ...]:
    """A leaf's path, as JAX gives it, in words: `("params", "dense", "kernel")`."""
    return tuple(jax.tree_util.keystr((entry,), simple=True) for entry in path)


def name_of(path: Sequence[Any]) -> str:
    """A leaf's path as its name: `params.dense.kernel`."""
    return ".".join(words_of(path))
