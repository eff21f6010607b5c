"""Self-attention over the visible tokens of a sequence."""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from jaxdiff.checks import require
from jaxdiff.networks.layers.attention import attend


class MaskedAttention(nn.Module):
    """Multi-head self-attention over the visible tokens of a sequence, without a norm and without a residual sum.

        y = W_out attend(W_qkv x)

    `W_out` starts at zero.

    Attributes:
      heads: number of heads.
      dtype: compute type; parameters are float32.
      head_width: length of the vectors of a head; None for the width of x divided by `heads`.
      causal: whether a token sees only itself and the tokens before it.
      use_bias: whether the dense layers have a bias.
      scale: factor of the logits; None for `1 / sqrt(head_width)`.
    """

    heads: int
    dtype: DTypeLike
    head_width: int | None = None
    causal: bool = False
    use_bias: bool = True
    scale: float | None = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch n width"],
        mask: Bool[Array, "batch n"],
        bias: Float[Array, "#batch #heads n n"] | None = None,
    ) -> Float[Array, "batch n width"]:
        """Applies the layer to `x` `[batch, n, width]` with the visible tokens `mask` `[batch, n]`.

        Args:
          x: the tokens.
          mask: which tokens are visible.
          bias: numbers that are added to the logits.

        Raises:
          ValueError: `heads` does not divide the width.
        """
        width = x.shape[-1]
        if self.head_width is None:
            require(self.heads >= 1 and width % self.heads == 0, "heads", self.heads, f"divisors of the width {width}")
        size = width // self.heads if self.head_width is None else self.head_width
        h = nn.Dense(3 * self.heads * size, dtype=self.dtype, use_bias=self.use_bias, name="qkv")(x)
        query, key, value = jnp.moveaxis(h.reshape(*x.shape[:2], 3, self.heads, size), 2, 0)
        h = attend(query, key, value, mask, bias=bias, causal=self.causal, scale=self.scale)
        h = h.reshape(*x.shape[:2], self.heads * size)
        zeros = nn.initializers.zeros
        return nn.Dense(width, dtype=self.dtype, use_bias=self.use_bias, kernel_init=zeros, name="out")(h)
