"""Pytrees: broadcasting, linear combinations, random keys and noise, and the names of leaves.

The core of the library touches data only through these functions.
"""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PyTree

from jaxdiff import batch_generator
from jaxdiff.arithmetic import root
from jaxdiff.checks import message, require

T = TypeVar("T")


def register(cls: type[T]) -> type[T]:
    """Makes a dataclass a pytree: fields are children, or part of the structure if their metadata say `static=True`.

    `jax.tree_util.register_dataclass` (JAX 0.10 to 0.12) is not used: the structures that it makes compare equal even
    for different classes. Two processes with equally many numbers could then share one compiled program.
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
        node = object.__new__(cls)  # without `__init__`, whose checks JAX's placeholders would fail
        for name, value in (*zip(children, leaves, strict=True), *zip(static, values, strict=True)):
            object.__setattr__(node, name, value)
        return node

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    return cls


class ByValue:
    """A base of dataclasses of numbers, made with `eq=False`, that compare by `equal`.

    The hash is that of the structure, which equal trees share, and needs no number.
    """

    def __eq__(self, other: Any) -> bool:
        return equal(self, other)

    def __hash__(self) -> int:
        return hash((type(self), jax.tree.structure(self)))


def as_key(key: Any) -> Key[Array, "*batch"]:
    """Returns `key` as a typed key array: one key, or one key per example.

    Old-style `uint32` keys (`[2]`, or `[batch, 2]`) are wrapped. One key per example is a key of threefry (see
    `of_example`).

    Raises:
      TypeError: `key` is not a JAX random key.
      ValueError: `key` has more than one axis.
    """
    dtype = getattr(key, "dtype", None)
    if dtype == np.uint32 and key.ndim >= 1:
        key = jax.random.wrap_key_data(key)
    elif dtype is None or not jnp.issubdtype(dtype, jax.dtypes.prng_key):
        raise TypeError(message("key", key, "random keys, such as jax.random.key(seed)"))
    require(key.ndim <= 1, "key.shape", key.shape, "() and [batch]")
    return jax.vmap(of_example)(key) if key.ndim else key


def of_example(key: Key[Array, ""]) -> Key[Array, ""]:
    """A key with which `vmap` over examples draws what each example draws alone.

    With a key of `rbg` or `unsafe_rbg`, `vmap` draws the numbers of all examples from the first key. A key of threefry
    is made of the words of such a key. Other keys are returned as they are.
    """
    if str(jax.random.key_impl(key)) not in ("rbg", "unsafe_rbg"):
        return key
    words = jax.random.key_data(key)
    made = jax.random.wrap_key_data(words[:2], impl="threefry2x32")
    for word in words[2:]:
        made = jax.random.fold_in(made, word)
    return made


def each(key: Key[Array, ""], numbers: Int[Array, " n"]) -> Key[Array, " n"]:
    """One key for each of `numbers`, such as the places of examples in a batch: `fold_in(key, i)`."""
    return jax.vmap(jax.random.fold_in, (None, 0))(of_example(key), numbers)


def fold_in(key: Key[Array, "*batch"], data: Any) -> Key[Array, "*batch"]:
    """`jax.random.fold_in` for one key or for one key per example."""
    return jax.vmap(jax.random.fold_in, (0, None))(key, data) if key.ndim else jax.random.fold_in(key, data)


def split(key: Key[Array, "*batch"], number: int) -> list[Key[Array, "*batch"]]:
    """`number` independent keys, each of the shape of `key`."""
    return [fold_in(key, i) for i in range(number)]


def example_keys(key: Any, batch: int) -> Key[Array, " batch"]:
    """One key per example.

    Args:
      key: one key, or one key per example (`[batch]`).
      batch: the number of examples.

    Returns:
      `fold_in(key, i)` for example i if `key` is one key; otherwise `key` itself.

    Raises:
      TypeError: `key` is not a JAX random key.
      ValueError: the shape of `key` is neither `()` nor `[batch]`.
    """
    key = as_key(key)
    if key.ndim == 0:
        return each(key, jnp.arange(batch))
    _check_keys(key, batch)
    return key


def _check_keys(key: Key[Array, "*batch"], batch: int) -> None:
    require(key.shape in ((), (batch,)), "key.shape", key.shape, f"() and ({batch},), one key per example")


@register
@dataclasses.dataclass(frozen=True)
class BatchKey:
    """The randomness of a batch, or of the part of a batch that one device holds.

    The random numbers of an example depend only on `key` and on the example's place in the whole batch.

    Attributes:
      key: one key for the whole batch.
      index: the places of the examples of this part in the whole batch.
      size: the number of examples in the whole batch.
    """

    key: Key[Array, ""]
    index: Int[Array, " batch"]
    size: int = dataclasses.field(metadata={"static": True})

    def each(self, number: int) -> Key[Array, " batch"]:
        """One key per example of this part. Different values of `number` give independent keys."""
        return each(jax.random.fold_in(self.key, number), self.index)

    def stream(self, number: int) -> "BatchKey":
        """Independent randomness for the same examples. Different values of `number` are independent of each other."""
        return dataclasses.replace(self, key=jax.random.fold_in(self.key, number))

    def ordinary(self) -> Key[Array, ""]:
        """One key for `jax.random`: its `split`, its `fold_in` and its draws of examples (`batch_generator.pack`)."""
        return batch_generator.pack(of_example(self.key), self.index, self.size)


def batch_key(key: "Key[Array, ''] | BatchKey", size: int) -> BatchKey:
    """The randomness of `size` examples.

    Args:
      key: one key, which stands for a whole batch of `size` examples; or a BatchKey, which is returned as it is; or its
        `ordinary()` key.
      size: the number of examples.

    Raises:
      TypeError: `key` is neither a JAX random key nor a BatchKey.
      ValueError: `key` has an axis, or is a BatchKey of another number of examples.
    """
    if not isinstance(key, BatchKey):
        key = as_key(key)
        require(not key.ndim, "key.shape", key.shape, "() and a BatchKey")
        packed = batch_generator.unpack(key)
        if packed is None:
            return BatchKey(key, jnp.arange(size), size)
        key = BatchKey(*packed)
    require(key.index.shape == (size,), "key.index.shape", key.index.shape, f"({size},), as the batch")
    return key


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


def wide(*leaves: Any) -> Any:
    """The type that sums of `leaves` are computed in: their common type, but at least float32."""
    return jnp.promote_types(jnp.result_type(*leaves), jnp.float32)


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
        _check_keys(key, batch_size(tree))

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
    _check_keys(key, size)
    return jax.vmap(lambda k: jax.random.uniform(k, (), dtype))(key)


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


def check_alike(name: str, tree: PyTree, like: PyTree) -> None:
    """Raises a ValueError, which calls `tree` by `name`, unless `tree` has the structure and the shapes of `like`."""
    shapes, wanted = (jax.tree.map(np.shape, t) for t in (tree, like))
    require(shapes == wanted, f"shape of {name}", shapes, wanted)


def check_floating(name: str, tree: PyTree) -> None:
    """Raises a TypeError that calls `tree` by `name` unless all of its leaves are floating-point arrays."""
    for dtype in map(jnp.result_type, jax.tree.leaves(tree)):
        floating = jnp.issubdtype(dtype, jnp.floating)
        require(floating, f"{name}.dtype", dtype, "floating-point types", TypeError)


def cast_like(tree: PyTree, like: PyTree) -> PyTree:
    """The leaves of `tree` in the types of the leaves of `like`."""
    return jax.tree.map(lambda new, old: new.astype(old.dtype), tree, like)


def words_of(path: Sequence[Any]) -> tuple[str, ...]:
    """The path of a leaf, as JAX gives it, as a tuple of words: `("params", "dense", "kernel")`."""
    return tuple(jax.tree_util.keystr((entry,), simple=True) for entry in path)


def name_of(path: Sequence[Any]) -> str:
    """The name of a leaf, made of its path: `params.dense.kernel`."""
    return ".".join(words_of(path))
