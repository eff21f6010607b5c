"""Multi-head attention of transformers: of tokens to themselves, or to the tokens of conditions."""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from jaxdiff.checks import require
from jaxdiff.networks.layers.attention import Implementation, attend
from jaxdiff.networks.layers.dense import Dense
from jaxdiff.networks.layers.rotary import Rotation


def split_heads(x: Float[Array, "batch n features"], parts: int, heads: int) -> list[Float[Array, "batch n heads c"]]:
    """Splits the result of one dense layer into `parts` arrays `[batch, n, heads, c]`, such as queries and keys.

    Raises:
      ValueError: `heads` does not divide the width of a part.
    """
    width = x.shape[-1] // parts
    require(heads >= 1 and width % heads == 0, "heads", heads, f"divisors of the width {width}")
    return list(jnp.moveaxis(x.reshape(*x.shape[:2], parts, heads, width // heads), 2, 0))


class MultiHeadAttention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017), without a norm before it and without a residual sum.

        self-attention     y = W_out attend(W_qkv x)
        cross-attention    y = W_out attend(W_q x, W_kv context)

    With `qk_norm`, the queries and keys of each head are divided by their root mean square and scaled by learned
    numbers that all heads share (SD3, Esser et al. 2024, arXiv 2403.03206, section 5.3.2). A rotation follows the norm.

    Attributes:
      heads: number of heads.
      dtype: compute type; parameters are float32.
      qk_norm: whether queries and keys are normalised.
      norm_eps: number added to the mean squares.
      attention: the implementation of `attend`.
      zero: whether `W_out` starts at zero.
      head_width: length of the vectors of a head; None for the width of x divided by `heads`.
      causal: whether a token attends only to itself and to the tokens before it.
      use_bias: whether the dense layers have a bias.
      scale: factor of the logits; None for `1 / sqrt(head_width)`.
    """

    heads: int
    dtype: DTypeLike
    qk_norm: bool = False
    norm_eps: float = 1e-6
    attention: Implementation = "xla"
    zero: bool = False
    head_width: int | None = None
    causal: bool = False
    use_bias: bool = True
    scale: float | None = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch n width"],
        context: Float[Array, "batch m features"] | None = None,
        mask: Bool[Array, "batch m"] | None = None,
        rotation: Rotation | None = None,
        bias: Float[Array, "#batch #heads n m"] | None = None,
    ) -> Float[Array, "batch n width"]:
        """Applies the layer.

        Args:
          x: the tokens, `[batch, n, width]`.
          context: the tokens that are attended to, `[batch, m, features]`; None for x.
          mask: which of the tokens attended to are visible, `[batch, m]`; None for all.
          rotation: the rotation of queries and keys, without a context.
          bias: numbers that are added to the logits.

        Raises:
          ValueError: `heads` does not divide the width.
        """
        width, init = x.shape[-1], nn.initializers.xavier_uniform()
        inner = width if self.head_width is None else self.heads * self.head_width

        def dense(x: Array, parts: int, name: str) -> list[Array]:
            layer = Dense(parts * inner, self.use_bias, self.dtype, kernel_init=init, name=name)
            return split_heads(layer(x), parts, self.heads)

        if context is None:
            query, key, value = dense(x, 3, "qkv")
        else:
            (query,), (key, value) = dense(x, 1, "query"), dense(context, 2, "key_value")
        if self.qk_norm:
            query = nn.RMSNorm(epsilon=self.norm_eps, dtype=self.dtype, name="query_norm")(query)
            key = nn.RMSNorm(epsilon=self.norm_eps, dtype=self.dtype, name="key_norm")(key)
        if rotation is not None:
            query, key = rotation(query), rotation(key)
        h = attend(
            query, key, value, mask, bias=bias, causal=self.causal, scale=self.scale, implementation=self.attention
        )
        out_init = nn.initializers.zeros if self.zero else init
        out = Dense(width, self.use_bias, self.dtype, kernel_init=out_init, name="out")
        return out(h.reshape(*x.shape[:2], inner))
