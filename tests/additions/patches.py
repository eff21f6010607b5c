"""A transformer over patches of signals and videos: small, and fast on a CPU."""

from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from jaxdiff.networks import Sinusoidal
from jaxdiff.networks.module import Network


class Patches(Network):
    """Blocks of attention over patches of any number of axes.

    Attributes:
      patch: the length of a patch along each axis.
      width: the length of a token.
      depth: the number of blocks.
      heads: the number of attention heads.
    """

    takes: ClassVar[tuple[str, ...]] = ("class", "vector")
    patch: tuple[int, ...] = (64,)
    width: int = 128
    depth: int = 3
    heads: int = 4

    @nn.compact
    def __call__(self, x: Any, time: Any, cond: Any = None, key: Any = None) -> Any:
        batch, *space, channels = x.shape
        grid = [length // size for length, size in zip(space, self.patch, strict=True)]
        axes = len(grid)
        # [batch, n1, p1, n2, p2, ..., channels] -> [batch, n1, n2, ..., p1, p2, ..., channels]
        order = [0, *range(1, 2 * axes, 2), *range(2, 2 * axes + 1, 2), 2 * axes + 1]
        cut = [batch, *[n for pair in zip(grid, self.patch, strict=True) for n in pair], channels]
        tokens = x.reshape(cut).transpose(order).reshape(batch, int(np.prod(grid)), -1)
        e = nn.Dense(self.width)(Sinusoidal()(time, self.width))
        for name, spec in self.specs:
            layer = nn.Embed(spec.classes + 1, self.width) if spec.channel == "class" else nn.Dense(self.width)
            e = e + layer(cond[name])
        e = nn.Dense(self.width)(nn.silu(e))[:, None]
        h = nn.Dense(self.width)(tokens)
        h = h + self.param("places", nn.initializers.normal(0.02), h.shape[1:])
        for _ in range(self.depth):
            a = nn.LayerNorm()(h + e)
            h = h + nn.MultiHeadDotProductAttention(self.heads)(a, a)
            h = h + nn.Dense(self.width)(nn.gelu(nn.Dense(2 * self.width)(nn.LayerNorm()(h + e))))
        out = nn.Dense(tokens.shape[-1], kernel_init=nn.initializers.zeros)(nn.LayerNorm()(h))
        shape = [batch, *grid, *self.patch, channels]
        back = [0, *[i for k in range(axes) for i in (1 + k, 1 + axes + k)], 2 * axes + 1]
        return out.reshape(shape).transpose(back).reshape(x.shape).astype(jnp.float32)
