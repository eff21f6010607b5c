"""The block of text transformers: attention and a feed-forward layer, each with a norm before it."""

from collections.abc import Callable

import flax.linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from jaxdiff.networks.layers.dense import Dense
from jaxdiff.networks.layers.multi_head import MultiHeadAttention


def pre_norm_block(
    h: Float[Array, "batch n width"],
    mask: Bool[Array, "batch n"],
    name: str,
    *,
    heads: int,
    inner: int,
    activation: Callable[[Array], Array],
    norm_eps: float,
    dtype: DTypeLike,
    causal: bool = False,
) -> Float[Array, "batch n width"]:
    """A block of a transformer encoder with normalisation before each layer.

        h = h + W_out attend(W_qkv norm(h))      then
        h = h + W_2 activation(W_1 norm(h))

    `W_out` and `W_2` start at zero. The function must be called inside a compact method.

    Args:
      h: the tokens, `[batch, n, width]`.
      mask: which tokens are visible, `[batch, n]`.
      name: the beginning of the names of the layers.
      heads: number of attention heads.
      inner: width between the two dense layers.
      activation: the nonlinearity between them.
      norm_eps: number added to the variances.
      dtype: compute type; parameters are float32.
      causal: whether a token sees only itself and the tokens before it.
    """

    def norm(h: Array, name: str) -> Array:
        return nn.LayerNorm(norm_eps, dtype=dtype, use_fast_variance=False, name=name)(h)

    r = norm(h, f"{name}_attention_norm")
    attention = MultiHeadAttention(heads, dtype, zero=True, causal=causal, name=f"{name}_attention")
    h = h + attention(r, mask=mask)
    r = activation(Dense(inner, dtype=dtype, name=f"{name}_in")(norm(h, f"{name}_norm")))
    return h + Dense(h.shape[-1], dtype=dtype, kernel_init=nn.initializers.zeros, name=f"{name}_out")(r)
