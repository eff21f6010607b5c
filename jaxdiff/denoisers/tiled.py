"""A denoiser of pictures of any size, made of a denoiser of pictures of one size."""

import dataclasses
from typing import Any

from jaxtyping import Array, Float

from jaxdiff import tiles, trees
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
        def estimate(tile: Float[Array, "batch height width channels"]) -> Estimate:
            return evaluate(self.denoiser, tile, t, s)

        found: Estimate = tiles.blended(estimate, x, self.size, overlap=self.overlap, at_a_time=self.at_a_time)
        return found


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
