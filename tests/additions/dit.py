"""A diffusion transformer: a network. Peebles & Xie 2023 (arXiv 2212.09748)."""

from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp

from additions import blobs, small
from jaxdiff.conditions import Label
from jaxdiff.models import Diffusion
from jaxdiff.networks import Sinusoidal
from jaxdiff.networks.module import Network
from jaxdiff.runs.config import Config


class DiT(Network):
    """Blocks of attention over patches, whose norms time and class scale and shift.

    Attributes:
      depth: the number of blocks.
      width: the length of a token.
      heads: the number of attention heads.
      patch: the side of a patch.
    """

    takes: ClassVar[tuple[str, ...]] = ("class",)
    hidden: ClassVar[str] = r"^block_\d+\..*kernel$"
    depth: int = 1
    width: int = 32
    heads: int = 2
    patch: int = 4

    @nn.compact
    def __call__(self, x: Any, time: Any, cond: Any = None, key: Any = None) -> Any:
        b, height, width, channels = x.shape
        e = nn.Dense(self.width)(nn.silu(nn.Dense(self.width)(Sinusoidal()(time, self.width))))
        for name, spec in self.specs:
            e = e + nn.Embed(spec.classes + 1, self.width, name=name)(cond[name])
        h = nn.Conv(self.width, (self.patch,) * 2, self.patch, name="patches")(x).reshape(b, -1, self.width)
        h = h + self.param("position", nn.initializers.normal(0.02), h.shape[1:])
        for i in range(self.depth):
            h = Block(self.width, self.heads, name=f"block_{i}")(h, nn.silu(e))
        h = nn.Dense(self.patch**2 * channels, kernel_init=nn.initializers.zeros, name="out")(nn.LayerNorm()(h))
        h = h.reshape(b, height // self.patch, width // self.patch, self.patch, self.patch, channels)
        return h.swapaxes(2, 3).reshape(x.shape)


class Block(nn.Module):
    """Attention and a dense layer, each between a scale, a shift and a gate."""

    width: int
    heads: int

    @nn.compact
    def __call__(self, h: Any, e: Any) -> Any:
        modulation = nn.Dense(6 * self.width, kernel_init=nn.initializers.zeros)(e)[:, None]
        shift, scale, gate, shift2, scale2, gate2 = jnp.split(modulation, 6, -1)
        a = nn.LayerNorm(use_bias=False, use_scale=False)(h) * (1 + scale) + shift
        h = h + gate * nn.MultiHeadDotProductAttention(self.heads)(a)
        a = nn.LayerNorm(use_bias=False, use_scale=False)(h) * (1 + scale2) + shift2
        return h + gate2 * nn.Dense(self.width)(nn.gelu(nn.Dense(2 * self.width)(a)))


CONFIG = Config(
    data=blobs.Blobs(),
    model=Diffusion(network=DiT(), conditions={"label": Label()}),
    optimizer=small.OPTIMIZER,
    train=small.TRAIN,
    sample=small.SAMPLE,
)
