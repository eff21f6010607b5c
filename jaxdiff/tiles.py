"""A function of pictures of one size, made into a function of larger pictures by overlapping tiles."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from jaxdiff import loops, trees
from jaxdiff.checks import require


def blended(
    function: Callable[[Float[Array, "batch height width channels"]], PyTree],
    x: Float[Array, "batch height width channels"],
    size: tuple[int, int],
    *,
    overlap: int,
    at_a_time: int = 1,
    scale: int = 1,
) -> PyTree:
    """The values of a function of tiles, averaged over the tiles that hold a place.

    The weights of a tile fall with the square of the distance to its borders, so that no tile begins with a step. The
    tiles are evaluated in one compiled loop, so that its memory, also in derivatives, depends on `at_a_time` and not on
    the size of the picture.

    Args:
      function: a function of tiles `[batch, *size, channels]` that gives a pytree of arrays whose sides are `scale`
        times those of the tile.
      x: pictures `[batch, height, width, channels]`.
      size: the height and the width of a tile.
      overlap: the number of pixels of x that neighbours share at least.
      at_a_time: the number of tiles that are evaluated together, for each example.
      scale: how many times larger the values of the function are than its argument.

    Returns:
      A pytree of arrays `[batch, scale height, scale width, channels]`.

    Raises:
      ValueError: x is no batch of pictures, or smaller than a tile.
    """
    require(x.ndim == 4, "x.shape", x.shape, "[batch, height, width, channels]")
    axes = [places(*lengths, overlap) for lengths in zip(x.shape[1:3], size, strict=True)]
    corners = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    window = np.outer(*(_hat(scale * length) for length in size))[..., None]
    total = np.zeros((*(scale * side for side in x.shape[1:3]), 1))
    for i, j in scale * corners:
        total[i : i + len(window), j : j + window.shape[1]] += window
    # The last round is filled up with tiles that do not count, so that the function is compiled once.
    spare = -len(corners) % at_a_time
    counts = jnp.asarray(np.repeat((1.0, 0.0), (len(corners), spare)), x.dtype)
    where = jnp.asarray(np.resize(corners, (len(corners) + spare, 2)))
    weights = jnp.asarray(window, x.dtype)
    shape = (x.shape[0], *size, x.shape[3])

    # Derivatives evaluate a round again, so that their memory does not grow with the picture either.
    @jax.checkpoint
    def of_tile(corner: Array) -> PyTree:
        return function(jax.lax.dynamic_slice(x, (0, *corner, 0), shape))

    def add(sums: PyTree, tile: tuple[Array, Array, PyTree]) -> tuple[PyTree, None]:
        corner, count, found = tile
        return jax.tree.map(lambda a, b: _added(a, b, count * weights, scale * corner), sums, found), None

    tiles = jax.lax.map(of_tile, where, batch_size=at_a_time)

    def zeros(tile: Array) -> Array:
        return jnp.zeros((len(x), *total.shape[:2], tile.shape[-1]), trees.wide(x))

    sums, _ = loops.scan(add, jax.tree.map(zeros, tiles), (where, counts, tiles))
    return jax.tree.map(lambda side: side * jnp.asarray(1 / total, x.dtype), sums)


def places(length: int, size: int, overlap: int) -> np.ndarray:
    """The first pixels of tiles of a size that cover a length evenly and share at least `overlap` pixels."""
    require(length >= size, "a side of x in pixels", length, f"sides of at least {size}, the size of a tile")
    count = 1 + -(-(length - size) // (size - overlap))
    return np.round(np.linspace(0, length - size, count)).astype(int)


def _hat(size: int) -> np.ndarray:
    """Weights that fall from the middle of a tile to its borders, as the square of the distance, and stay above 0."""
    return ((size + 1) / 2 - abs(np.arange(size) - (size - 1) / 2)) ** 2


def _added(total: Array, tile: Array, weights: Array, corner: Any) -> Array:
    where = (0, *corner, 0)
    before = jax.lax.dynamic_slice(total, where, tile.shape)
    return jax.lax.dynamic_update_slice(total, before + weights * tile, where)
