"""Random keys: one for a batch, or one for each example."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key

from jaxdiff import batch_generator
from jaxdiff.checks import message, require
from jaxdiff.trees.registration import register


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
    check_keys(key, batch)
    return key


def check_keys(key: Key[Array, "*batch"], batch: int) -> None:
    """Raises a ValueError unless `key` is one key, or one key per example."""
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
