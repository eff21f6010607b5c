"""A denoiser of pictures of any size, made of a denoiser of pictures of one size."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxdiff import loops, trees
from jaxdiff.checks import integer, require
from jaxdiff.denoisers.denoiser import Denoiser, evaluate, is_consistent
from jaxdiff.parametrizations import Estimate
from jaxdiff.processes import Process


@trees.register
@dataclasses.dataclass(frozen=True)
class TiledDenoiser:
    """The denoiser of large pictures. `tiled` makes it."""

    denoiser: Denoiser
    size: tuple[int, int] = dataclasses.field(metadata={"static": True})
    overlap: int = dataclasses.field(metadata={"static": True})
    at_a_time: int = dataclasses.field(metadata={"static": True})

    @property
    def process(self) -> Process:
        """The process of the denoiser."""
        return self.denoiser.process

    @property
    def consistent(self) -> bool:
        """Whether the pairs of the denoiser are consistent. Averages of consistent pairs are so too."""
        return is_consistent(self.denoiser)

    def __call__(self, x: Float[Array, "batch height width channels"], t: Any, s: Any = None) -> Estimate:
        require(x.ndim == 4, "x.shape", x.shape, "[batch, height, width, channels]")
        axes = [_places(*lengths, self.overlap) for lengths in zip(x.shape[1:3], self.size, strict=True)]
        corners = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
        window = np.outer(*(_hat(length) for length in self.size))[..., None]
        total = np.zeros((*x.shape[1:3], 1))
        for i, j in corners:
            total[i : i + self.size[0], j : j + self.size[1]] += window
        # The last round is filled up with tiles that do not count, so that the denoiser is compiled once.
        spare = -len(corners) % self.at_a_time
        counts = jnp.asarray(np.repeat((1.0, 0.0), (len(corners), spare)), x.dtype)
        where = jnp.asarray(np.resize(corners, (len(corners) + spare, 2)))
        weights = jnp.asarray(window, x.dtype)
        shape = (x.shape[0], *self.size, x.shape[3])

        # Derivatives evaluate a round again, so that their memory does not grow with the picture either.
        @jax.checkpoint
        def estimate(corner: Array) -> Estimate:
            return evaluate(self.denoiser, jax.lax.dynamic_slice(x, (0, *corner, 0), shape), t, s)

        def add(sums: Estimate, tile: tuple[Array, Array, Estimate]) -> tuple[Estimate, None]:
            corner, count, found = tile
            return Estimate(*(_added(*pair, count * weights, corner) for pair in zip(sums, found, strict=True))), None

        tiles = jax.lax.map(estimate, where, batch_size=self.at_a_time)
        zeros = jnp.zeros(x.shape, trees.wide(x))
        sums, _ = loops.scan(add, Estimate(zeros, zeros), (where, counts, tiles))
        return Estimate(*(side * jnp.asarray(1 / total, x.dtype) for side in sums))


def _places(length: int, size: int, overlap: int) -> np.ndarray:
    """The first pixels of tiles of a size that cover a length evenly and share at least `overlap` pixels."""
    require(length >= size, "a side of x in pixels", length, f"sides of at least {size}, the size of a tile")
    count = 1 + -(-(length - size) // (size - overlap))
    return np.round(np.linspace(0, length - size, count)).astype(int)


def _hat(size: int) -> np.ndarray:
    """Weights that fall linearly from the middle of a tile to its borders, and stay above 0."""
    return (size + 1) / 2 - abs(np.arange(size) - (size - 1) / 2)


def _added(total: Array, tile: Array, weights: Array, corner: Array) -> Array:
    where = (0, *corner, 0)
    before = jax.lax.dynamic_slice(total, where, tile.shape)
    return jax.lax.dynamic_update_slice(total, before + weights * tile, where)


def tiled(denoiser: Denoiser, size: int | tuple[int, int], *, overlap: int, at_a_time: int = 4) -> TiledDenoiser:
    """A denoiser of pictures that are larger than those which a denoiser knows.

    The picture is covered with overlapping tiles. Both estimates of a pixel are averages over the tiles that hold the
    pixel, with weights that fall towards the borders of a tile. Since the tiles are blended at each evaluation, all of
    them follow one picture, and no seam shows. Bar-Tal et al. 2023 (MultiDiffusion, arXiv 2302.08113), section 4.

    The tiles are evaluated in one compiled loop. The memory of the denoiser, also in derivatives, depends on
    `at_a_time` and not on the size of the picture. The conditions of the denoiser hold for all tiles of an example.

    Args:
      denoiser: a denoiser of pictures `[batch, height, width, channels]`.
      size: the height and width of a tile in pixels; one number for both.
      overlap: the number of pixels that neighbours share at least, from 0 to the smaller side of a tile minus 1.
      at_a_time: the number of tiles that are evaluated together, for each example.

    Raises:
      ValueError: a number is not allowed. When the result is called: x is no batch of pictures, or smaller than a tile.
    """
    sides = size if isinstance(size, tuple) else (size, size)
    require(len(sides) == 2, "size", size, "one number of pixels, and (height, width)")
    for side in sides:
        integer("size", side)
    integer("overlap", overlap, least=0, most=min(sides) - 1)
    integer("at_a_time", at_a_time)
    return TiledDenoiser(denoiser, (int(sides[0]), int(sides[1])), int(overlap), int(at_a_time))
