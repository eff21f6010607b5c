"""The spatial transformer of latent diffusion: attention over positions and to tokens, and a gated dense layer."""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from jaxdiff.checks import require
from jaxdiff.networks.layers.attention import attend
from jaxdiff.networks.layers.context import Context
from jaxdiff.networks.layers.dense import Dense
from jaxdiff.networks.layers.norms import GroupNorm


class TokenAttention(nn.Module):
    """Multi-head attention of a sequence to itself, or to a context, without a norm and without a residual sum.

        y = W_out attend(W_query x, W_key c, W_value c)        c = x without a context

    Only `W_out` has a bias. The kernels of one input are one kernel: `qkv` of x, or `query` of x and `key_value` of c.

    Attributes:
      head_channels: channels of one head.
      dtype: compute type; parameters are float32.
      identity: whether every position of x attends only to itself, for perturbed-attention guidance.
    """

    head_channels: int
    dtype: DTypeLike
    identity: bool = False

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch n width"], context: Context | None = None
    ) -> Float[Array, "batch n width"]:
        """Applies the layer to `x` `[batch, n, width]`; the result has the same shape."""
        width = x.shape[-1]

        def projected(h: Array, count: int, name: str) -> Array:
            h = Dense(count * width, use_bias=False, dtype=self.dtype, name=name)(h)
            heads = (count, width // self.head_channels, self.head_channels)
            return jnp.moveaxis(h.reshape(*h.shape[:2], *heads), 2, 0)

        if context is None:
            query, key, value = projected(x, 3, "qkv")
        else:
            (query,), (key, value) = projected(x, 1, "query"), projected(context.values, 2, "key_value")
        mask = None if context is None else context.mask
        h = value if self.identity else attend(query, key, value, mask)
        return Dense(width, dtype=self.dtype, name="out")(h.reshape(x.shape))


class TransformerBlock(nn.Module):
    """Block of the spatial transformer (Rombach et al. 2022, arXiv 2112.10752, appendix E.2.1).

        h = h + self(norm(h))
        h = h + cross(norm(h), context)
        h = h + W_out (a * gelu(g))        a, g = W_in norm(h)

    The norms are layer normalisations, and gelu is the exact one (Shazeer 2020, arXiv 2002.05202: GEGLU).

    Attributes:
      head_channels: channels of one head.
      dtype: compute type; parameters are float32.
      identity: whether every position attends only to itself, for perturbed-attention guidance.
    """

    head_channels: int
    dtype: DTypeLike
    identity: bool = False

    @nn.compact
    def __call__(self, h: Float[Array, "batch n width"], context: Context) -> Float[Array, "batch n width"]:
        """Applies the block to `h` `[batch, n, width]`; the result has the same shape."""

        def norm(name: str) -> Array:
            result: Array = nn.LayerNorm(1e-5, dtype=self.dtype, use_fast_variance=False, name=name)(h)
            return result

        width = h.shape[-1]
        h = h + TokenAttention(self.head_channels, self.dtype, self.identity, name="self")(norm("norm_self"))
        h = h + TokenAttention(self.head_channels, self.dtype, name="cross")(norm("norm_cross"), context)
        gated = Dense(8 * width, dtype=self.dtype, name="in")(norm("norm_in"))
        value, gate = jnp.split(gated, 2, axis=-1)
        return h + Dense(width, dtype=self.dtype, name="out")(value * nn.gelu(gate, approximate=False))


class SpatialTransformer(nn.Module):
    """Residual transformer over flattened space, which attends to tokens (Rombach et al. 2022, appendix E.2.1).

        y = (x + W_out blocks(W_in norm(x), context)) * skip_scale

    `W_out` starts at zero. The group normalisation has an epsilon of its own, 1e-6, whatever that of the network.

    Attributes:
      head_channels: channels of one head; None for a single head.
      norm_groups: groups of the group normalisation; None for the rule of `group_count`.
      skip_scale: factor of the residual sum.
      depth: number of blocks.
      dtype: compute type; parameters are float32.
      identity: whether every position attends only to itself, for perturbed-attention guidance.
    """

    head_channels: int | None
    norm_groups: int | None
    skip_scale: float
    depth: int
    dtype: DTypeLike
    identity: bool = False

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch *space channels"], context: Context
    ) -> Float[Array, "batch *space channels"]:
        """Applies the layer to `x` `[batch, *space, channels]`; the result has the same shape.

        Raises:
          ValueError: `head_channels` does not divide the channels.
        """
        batch, channels = x.shape[0], x.shape[-1]
        size = channels if self.head_channels is None else self.head_channels
        require(size >= 1 and channels % size == 0, "head_channels", size, f"divisors of {channels} channels, or None")
        h = GroupNorm(self.norm_groups, 1e-6, self.dtype, name="norm")(x).reshape(batch, -1, channels)
        h = Dense(channels, dtype=self.dtype, name="in")(h)
        for i in range(self.depth):
            h = TransformerBlock(size, self.dtype, self.identity, name=f"block_{i}")(h, context)
        h = Dense(channels, dtype=self.dtype, kernel_init=nn.initializers.zeros, name="out")(h)
        return (x + h.reshape(x.shape)) * self.skip_scale
