"""The block of MMDiT: two streams of tokens with weights of their own and one attention."""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from jaxdiff.networks.layers.attention import Implementation, attend
from jaxdiff.networks.layers.context import Context
from jaxdiff.networks.layers.dense import Dense
from jaxdiff.networks.layers.feed_forward import FeedForward
from jaxdiff.networks.layers.modulation import Modulation, modulate, plain_norm
from jaxdiff.networks.layers.multi_head import MultiHeadAttention, split_heads


class JointBlock(nn.Module):
    """A block of MMDiT (SD3, Esser et al. 2024, arXiv 2403.03206, section 4 and figure 2).

    The stream of the data and the stream of the conditions have weights of their own. Both are scaled, shifted and
    gated as in `TransformerBlock`. Their queries, keys and values form one sequence, data first, in one attention over
    all tokens of the data and the visible tokens of the conditions.

    Attributes:
      heads: number of attention heads.
      hidden: the hidden width of the feed-forward layers.
      qk_norm: whether queries and keys are normalised, as for `MultiHeadAttention`.
      norm_eps: number added to the variances and mean squares.
      dual: whether the stream of the data has a second attention, to itself alone, which is added (SD3.5-medium).
      last: whether the block is the last one, after which the stream of the conditions ends.
      attention: the implementation of `attend`.
      dtype: compute type; parameters are float32.
    """

    heads: int
    hidden: int
    qk_norm: bool
    norm_eps: float
    dual: bool
    last: bool
    attention: Implementation
    dtype: DTypeLike

    @nn.compact
    def __call__(
        self, h: Float[Array, "batch n width"], context: Context, c: Float[Array, "batch condition"]
    ) -> tuple[Float[Array, "batch n width"], Context]:
        """Applies the block.

        Args:
          h: the tokens of the data, `[batch, n, width]`.
          context: the tokens of the conditions, of the same width.
          c: the vector of time and conditions.

        Returns:
          Both streams. The last block returns the conditions as they were.
        """
        count, width = h.shape[1], h.shape[-1]
        dense = partial(Dense, dtype=self.dtype, kernel_init=nn.initializers.xavier_uniform())
        data = Modulation(9 if self.dual else 6, width, self.dtype, name="modulation")(c)
        told = Modulation(2 if self.last else 6, width, self.dtype, name="context_modulation")(c)
        normed = plain_norm(h, self.norm_eps, self.dtype)

        def heads(x: Array, prefix: str) -> tuple[Array, Array, Array]:
            query, key, value = split_heads(dense(3 * width, name=f"{prefix}qkv")(x), 3, self.heads)
            if self.qk_norm:
                query = nn.RMSNorm(epsilon=self.norm_eps, dtype=self.dtype, name=f"{prefix}query_norm")(query)
                key = nn.RMSNorm(epsilon=self.norm_eps, dtype=self.dtype, name=f"{prefix}key_norm")(key)
            return query, key, value

        own = heads(modulate(normed, data[0], data[1]), "")
        others = heads(modulate(plain_norm(context.values, self.norm_eps, self.dtype), told[0], told[1]), "context_")
        query, key, value = (jnp.concatenate(pair, axis=1) for pair in zip(own, others, strict=True))
        query = query[:, :count] if self.last else query
        mask = jnp.concatenate([jnp.ones(h.shape[:2], bool), context.mask], axis=1)
        attended = attend(query, key, value, mask, implementation=self.attention)
        attended = attended.reshape(*query.shape[:2], width)

        a = dense(width, name="out")(attended[:, :count])
        if self.dual:
            shift, scale, gate = data[6:]
            second = MultiHeadAttention(
                self.heads, self.dtype, self.qk_norm, self.norm_eps, self.attention, name="dual_attention"
            )(modulate(normed, shift, scale))
            h = h + data[2] * a + gate * second
        else:
            h = h + data[2] * a
        h = self._feed_forward(h, data[3:6], "feed_forward")
        if self.last:
            return h, context
        values = context.values + told[2] * dense(width, name="context_out")(attended[:, count:])
        return h, Context(self._feed_forward(values, told[3:], "context_feed_forward"), context.mask)

    def _feed_forward(self, h: Array, parts: list[Array], name: str) -> Array:
        shift, scale, gate = parts
        layer = FeedForward(self.hidden, "gelu", self.dtype, name=name)
        return h + gate * layer(modulate(plain_norm(h, self.norm_eps, self.dtype), shift, scale))
