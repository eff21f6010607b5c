"""What transformers have before their first block."""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, Key

from jaxdiff import trees
from jaxdiff.checks import require
from jaxdiff.networks.inputs import Cond, check_input, compute_types, read_cond, with_planes
from jaxdiff.networks.layers.condition_vector import ConditionVector
from jaxdiff.networks.layers.patches import patch_sizes


class Entrance(NamedTuple):
    """The checked and embedded arguments of a transformer.

    Attributes:
      x: the input and the planes, `[batch, *space, channels]`, in the compute type.
      c: the vector of time and conditions, `[batch, width]`.
      told: the part of c that comes from classes and vectors, `[batch, width]`.
      given: the conditions by name.
      keys: one random key per example for dropout, or None.
      patch: the size of a patch along each axis.
      grid: the number of patches along each axis.
      wide: float32, or the wider type of the input.
      dtype: the compute type.
    """

    x: Float[Array, "batch *space channels"]
    c: Float[Array, "batch width"]
    told: Float[Array, "batch width"]
    given: dict[str, Any]
    keys: Key[Array, " batch"] | None
    patch: tuple[int, ...]
    grid: tuple[int, ...]
    wide: DTypeLike
    dtype: DTypeLike

    @property
    def patch_size(self) -> int:
        """The number of positions of a patch."""
        return math.prod(self.patch)


def enter(network: Any, x: Float[Array, "batch *space channels"], time: ArrayLike, cond: Cond, key: Any) -> Entrance:
    """Checks the arguments of a transformer, and embeds time, classes and vectors.

    The function must be called inside a compact method of the network.

    Args:
      network: a transformer, with the settings `patch`, `width`, `embedding`, `embedding_features` and `dtype`.
      x, time, cond, key: the arguments of the network.

    Raises:
      ValueError, TypeError: see `DiT`.
    """
    require(x.ndim in (3, 4, 5), "x.shape", x.shape, "[batch, *space, channels] with 1 to 3 axes of space")
    time = check_input(x, time)
    space = x.shape[1:-1]
    patch = patch_sizes(network.patch, space)
    keys = None if key is None else trees.example_keys(key, x.shape[0])
    wide, dtype = compute_types(x, network.dtype)
    given = read_cond(cond, network.specs, x.shape[0], space)
    embed = ConditionVector(
        network.embedding_features, network.width, network.embedding, network.specs, dtype, name="conditioning"
    )
    c, told = embed(jnp.asarray(time), given)
    grid = tuple(length // size for length, size in zip(space, patch, strict=True))
    return Entrance(with_planes(x, given, network.specs, dtype), c, told, given, keys, patch, grid, wide, dtype)
