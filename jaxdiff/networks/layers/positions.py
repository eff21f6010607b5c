"""Positions of tokens: sines and cosines, or a learned table, which are added to the tokens.

Positions are components: frozen dataclasses whose settings are hashable. A grid of tokens has one to three axes.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxdiff.checks import integer, require
from jaxdiff.components import Component

_MOST = 2**24  # numbers of one axis: they are computed on the host when a network is made, even if in shape only


class Positions(Component):
    """The base of positions that are added to tokens."""

    home: ClassVar[str] = "jaxdiff.networks"

    def __call__(self, module: nn.Module, grid: tuple[int, ...], width: int) -> Float[Array, "*grid width"]:
        """The positions of a grid of tokens, `[*grid, width]`, in float32.

        Args:
          module: the Linen module that holds the parameters, inside a compact method.
          grid: the number of tokens along each axis.
          width: the length of a token.

        Raises:
          ValueError: the grid or the width does not fit the settings.
        """
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class SinCosPositions(Positions):
    """Sines and cosines of the positions along each axis (Vaswani et al. 2017; DiT, Peebles & Xie 2023).

    An axis with d entries and positions p has the frequencies `f_i = 10000^(-2 i / d)`, i = 0 .. d/2 - 1, and the
    entries `[sin(p f), cos(p f)]`. The entries of the axes follow each other:

        1 axis     all entries
        2 axes     half for the second axis, then half for the first, as in DiT and SD3 (width before height)
        3 axes     a quarter for the first axis, then 3/8 for the third and 3/8 for the second, as in CogVideoX

    Positions count from 0. With `base`, they run from 0 to just below `base` on a grid of any size. With `table`, the
    grid is the centre of a larger grid, as in SD3 (Esser et al. 2024, arXiv 2403.03206, section 5.3.2).

    Attributes:
      base: the number of positions that the axes span, one number for all axes or one per axis; empty for the size of
        the grid, or of the table.
      table: the size of the larger grid, one number for all axes or one per axis; empty for none.
    """

    base: tuple[int, ...] = ()
    table: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("base", "table"):
            for size in getattr(self, name):
                integer(name, size)

    def __call__(self, module: nn.Module, grid: tuple[int, ...], width: int) -> Float[Array, "*grid width"]:
        require(len(grid) in (1, 2, 3), "x.shape", ("batch", *grid, width), "tokens with 1 to 3 axes of positions")
        size = _per_axis("positions.table", self.table, grid) or grid
        base = _per_axis("positions.base", self.base, grid) or size
        starts = _centre(size, grid)
        axes = [(s + np.arange(n)) * (b / t) for s, n, b, t in zip(starts, grid, base, size, strict=True)]
        shares = {1: (width,), 2: (width // 2,) * 2, 3: (width // 4, 3 * width // 8, 3 * width // 8)}[len(grid)]
        multiple = {1: 2, 2: 4, 3: 16}[len(grid)]
        require(width % multiple == 0, "width", width, f"multiples of {multiple} with positions of {len(grid)} axes")
        order = {1: (0,), 2: (1, 0), 3: (0, 2, 1)}[len(grid)]
        parts = [_waves(grid, axis, axes[axis], share) for axis, share in zip(order, shares, strict=True)]
        return jnp.concatenate(parts, axis=-1)


@dataclasses.dataclass(frozen=True)
class LearnedPositions(Positions):
    """A learned table of positions, whose centre a smaller grid takes.

    Attributes:
      table: the size of the table, one number for all axes or one per axis.
    """

    table: tuple[int, ...] = (32,)

    def __post_init__(self) -> None:
        for size in self.table:
            integer("table", size)
        require(self.table, "table", self.table, "tuples of at least one integer")

    def __call__(self, module: nn.Module, grid: tuple[int, ...], width: int) -> Float[Array, "*grid width"]:
        size = _per_axis("positions.table", self.table, grid)
        init = nn.initializers.normal(0.02)
        table: Array = module.param("positions", init, (*size, width))
        window = tuple(slice(s, s + n) for s, n in zip(_centre(size, grid), grid, strict=True))
        return table[window]


def _per_axis(name: str, given: tuple[int, ...], grid: Sequence[int]) -> tuple[int, ...]:
    """`given` with one number per axis of the grid."""
    require(len(given) in (0, 1, len(grid)), name, given, f"tuples of 1 or {len(grid)} integers for this grid")
    return given * len(grid) if len(given) == 1 else given


def _centre(size: Sequence[int], grid: Sequence[int]) -> list[int]:
    """The first position of a grid in the centre of a table."""
    fits = all(n <= t for n, t in zip(grid, size, strict=True))
    require(fits, "grid of tokens", tuple(grid), f"grids of at most {tuple(size)}, the size of the table of positions")
    return [(t - n) // 2 for n, t in zip(grid, size, strict=True)]


def _waves(grid: tuple[int, ...], axis: int, positions: Any, entries: int) -> Array:
    """The entries of one axis on the whole grid, `[*grid, entries]`. Only one line of the grid is made on the host."""
    size, allowed = (len(positions), entries), f"lengths and entries whose product is at most {_MOST}"
    require(len(positions) * entries <= _MOST, "positions and entries of an axis", size, allowed)
    frequencies = 10_000.0 ** (-np.arange(entries // 2) / (entries / 2))
    phase = positions[:, None] * frequencies
    waves = np.concatenate([np.sin(phase), np.cos(phase)], axis=-1)
    shape = tuple(n if i == axis else 1 for i, n in enumerate(grid))
    return jnp.broadcast_to(jnp.asarray(waves.reshape(*shape, entries), jnp.float32), (*grid, entries))
