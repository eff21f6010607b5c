"""Rotary position embedding along the axes of a grid of tokens."""

import dataclasses
from typing import ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxdiff.checks import positive, require
from jaxdiff.components import Component


class Rotation(NamedTuple):
    """The angles by which the pairs of channels of each token are rotated.

    Attributes:
      cos: the cosines, `[n, c / 2]`.
      sin: the sines, `[n, c / 2]`.
    """

    cos: Float[Array, "n half"]
    sin: Float[Array, "n half"]

    def after(self, tokens: int) -> "Rotation":
        """The rotation of a sequence that begins with `tokens` further tokens, which are not rotated."""
        ones, zeros = jnp.ones((tokens, self.cos.shape[-1])), jnp.zeros((tokens, self.cos.shape[-1]))
        return Rotation(jnp.concatenate([ones, self.cos]), jnp.concatenate([zeros, self.sin]))

    def __call__(self, x: Float[Array, "batch n heads c"]) -> Float[Array, "batch n heads c"]:
        """Rotates queries or keys."""
        cos, sin = (part[:, None].astype(x.dtype) for part in self)
        a, b = x[..., 0::2], x[..., 1::2]
        return jnp.stack([a * cos - b * sin, b * cos + a * sin], axis=-1).reshape(x.shape)


class RotaryPositions(Component):
    """The base of rotary embeddings of positions."""

    home: ClassVar[str] = "jaxdiff.networks"

    def __call__(self, grid: tuple[int, ...], channels: int) -> Rotation:
        """The rotation of the tokens of a grid, for heads of `channels` channels.

        Raises:
          ValueError: the channels cannot be shared by the axes.
        """
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Rope(RotaryPositions):
    """Rotary position embedding (Su et al. 2021, arXiv 2104.09864) along each axis of a grid.

    The channels of a head are shared by the axes. An axis with d channels rotates the pair of channels 2 i and 2 i + 1
    by the angle `p theta^(-2 i / d)` at position p = 0, 1, ... With one or two axes the shares are equal; with three,
    the second and the third axis have `2 (c // 6)` channels each and the first axis has the rest, as in Wan.

    Attributes:
      theta: the base of the frequencies.
    """

    theta: float = 10_000.0

    def __post_init__(self) -> None:
        positive("theta", self.theta)

    def __call__(self, grid: tuple[int, ...], channels: int) -> Rotation:
        require(len(grid) in (1, 2, 3), "grid of tokens", grid, "grids of 1 to 3 axes")
        multiple = 2 * len(grid) if len(grid) < 3 else 2
        good = channels % multiple == 0 and channels >= 2 * len(grid)
        require(good, "channels of a head", channels, f"multiples of {multiple}, at least {2 * len(grid)}, with rope")
        share = 2 * (channels // (2 * len(grid)))
        shares = [channels - share * (len(grid) - 1)] + [share] * (len(grid) - 1)
        parts = []
        for axis, (length, entries) in enumerate(zip(grid, shares, strict=True)):
            frequencies = self.theta ** (-np.arange(0, entries, 2) / entries)
            angles = np.arange(length)[:, None] * frequencies
            shape = tuple(n if i == axis else 1 for i, n in enumerate(grid))
            parts.append(np.broadcast_to(angles.reshape(*shape, -1), (*grid, entries // 2)))
        phase = np.concatenate(parts, axis=-1).reshape(-1, channels // 2)
        return Rotation(jnp.asarray(np.cos(phase), jnp.float32), jnp.asarray(np.sin(phase), jnp.float32))
