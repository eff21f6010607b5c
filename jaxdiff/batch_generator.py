"""A random number generator whose keys belong to a batch: an example draws the same numbers in any part of its batch.

A key of this generator holds a key of threefry and the places of some examples in the whole batch. `jax.random.split`,
`jax.random.fold_in` and the draws take it as they take any other key. `trees.BatchKey` makes such keys.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key, UInt32

from jaxdiff.checks import require

_BASE = "threefry2x32"
_WORDS = 2  # the length of a key of threefry
# The number of examples of the whole batch, by the generator.
_WHOLE: dict[Any, int] = {}


def pack(key: Key[Array, ""], places: Int[Array, " part"], whole: int) -> Key[Array, ""]:
    """One key for some examples of a batch.

    A draw whose first axis has as many entries as there are examples is a draw of examples: row i depends on the key
    and on the place of example i alone. Every other draw, such as a scalar, is the same for all parts of the batch.
    (Draws by rejection, such as `jax.random.gamma`, are as good, but another part draws other numbers.)

    Args:
      key: a key of the whole batch, of the generator threefry.
      places: the places of the examples in the whole batch.
      whole: the number of examples of the whole batch.

    Raises:
      ValueError: the key is of another generator.
    """
    kind = str(jax.random.key_impl(key))
    require(kind == _BASE, "generator of key", kind, repr(_BASE))
    words = jnp.concatenate([jax.random.key_data(key), places.astype(jnp.uint32)])
    return jax.random.wrap_key_data(words, impl=_generator(len(places), whole))


def unpack(key: Key[Array, ""]) -> tuple[Key[Array, ""], Int[Array, " part"], int] | None:
    """The key, the places and the size of the whole batch in a key of `pack`; None for a key of another generator."""
    whole = _WHOLE.get(jax.random.key_impl(key))
    if whole is None:
        return None
    words = jax.random.key_data(key)
    return _base(words), words[_WORDS:].astype(jnp.int32), whole


@functools.cache
def _generator(part: int, whole: int) -> Any:
    """The generator of keys for `part` examples of `whole`."""

    def with_places(keys: UInt32[Array, "*n base"], words: UInt32[Array, " all"]) -> UInt32[Array, "*n all"]:
        return jnp.concatenate([keys, jnp.broadcast_to(words[_WORDS:], (*keys.shape[:-1], part))], axis=-1)

    def split(words: UInt32[Array, " all"], shape: tuple[int, ...]) -> UInt32[Array, "*shape all"]:
        return with_places(jax.random.key_data(jax.random.split(_base(words), shape)), words)

    def fold_in(words: UInt32[Array, " all"], number: Any) -> UInt32[Array, " all"]:
        return with_places(jax.random.key_data(jax.random.fold_in(_base(words), number)), words)

    def random_bits(words: UInt32[Array, " all"], width: int, shape: tuple[int, ...]) -> Array:
        key, dtype = _base(words), f"uint{width}"
        if not shape or shape[0] != part:
            return jax.random.bits(key, shape, dtype)
        return jax.vmap(lambda i: jax.random.bits(jax.random.fold_in(key, i), shape[1:], dtype))(words[_WORDS:])

    def seed(number: Any) -> UInt32[Array, " all"]:
        key = jax.random.key_data(jax.random.key(number, impl=_BASE))
        return jnp.concatenate([key, jnp.arange(part, dtype=jnp.uint32)])

    from jax.extend.random import define_prng_impl  # brings Pallas, which doubles the time of `import jaxdiff`

    functions: dict[str, Any] = {"seed": seed, "split": split, "random_bits": random_bits, "fold_in": fold_in}
    name = f"batch_{part}_of_{whole}"
    generator = define_prng_impl(key_shape=(_WORDS + part,), name=name, tag="batch", **functions)
    _WHOLE[generator] = whole
    return generator


def _base(words: UInt32[Array, " all"]) -> Key[Array, ""]:
    return jax.random.wrap_key_data(words[:_WORDS], impl=_BASE)
