"""The block of diffusion transformers: attention and a feed-forward layer, each scaled, shifted and gated."""

from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Key

from jaxdiff.networks.layers.attention import Implementation
from jaxdiff.networks.layers.context import Context
from jaxdiff.networks.layers.dense import Dense
from jaxdiff.networks.layers.dropout import Dropout
from jaxdiff.networks.layers.feed_forward import Activation, FeedForward
from jaxdiff.networks.layers.modulation import Modulation, modulate, plain_norm
from jaxdiff.networks.layers.multi_head import MultiHeadAttention
from jaxdiff.networks.layers.rotary import Rotation


class TransformerBlock(nn.Module):
    """A block with adaptive normalisation (adaLN-Zero; Peebles & Xie 2023, arXiv 2212.09748, section 3.2).

        h = W_skip [h, skip]                                            with a skip
        h = h + gate_1 attention(norm(h) (1 + scale_1) + shift_1)
        h = h + cross_attention(h, context)                             with a context
        h = h + gate_2 feed_forward(norm(h) (1 + scale_2) + shift_2)

    The skip is that of U-ViT (Bao et al. 2022, arXiv 2209.12152), and the context that of PixArt-alpha (Chen et al.
    2023, arXiv 2310.00426). Shifts, scales and gates are linear in `silu(c)` and start at zero, and so does the result
    of cross-attention. A new block therefore changes nothing.

    Attributes:
      heads: number of attention heads.
      hidden: the hidden width of the feed-forward layer.
      activation: the kind of the feed-forward layer.
      norm: `"layer"`: layer normalisation without parameters (DiT). `"rms"`: division by the root mean square, with a
        learned scale (JiT).
      qk_norm: whether queries and keys are normalised.
      norm_eps: number added to the variances and mean squares.
      feed_forward_norm_eps: the same for the norm before the feed-forward layer.
      dropout: dropout rate of the result of attention, and inside the feed-forward layer.
      attention: the implementation of `attend`.
      dtype: compute type; parameters are float32.
    """

    heads: int
    hidden: int
    activation: Activation
    norm: Literal["layer", "rms"]
    qk_norm: bool
    norm_eps: float
    feed_forward_norm_eps: float
    dropout: float
    attention: Implementation
    dtype: DTypeLike

    @nn.compact
    def __call__(
        self,
        h: Float[Array, "batch n width"],
        c: Float[Array, "batch condition"],
        context: Context | None = None,
        rotation: Rotation | None = None,
        keys: Key[Array, " batch"] | None = None,
        skip: Float[Array, "batch n width"] | None = None,
        drops: Bool[Array, ""] | None = None,
    ) -> Float[Array, "batch n width"]:
        """Applies the block.

        Args:
          h: the tokens, `[batch, n, width]`.
          c: the vector of time and conditions.
          context: the tokens of conditions, which have the width of h; None for a block without cross-attention.
          rotation: the rotation of queries and keys; None for none.
          keys: one random key per example for dropout; None for no dropout.
          skip: the tokens of an earlier block; None for a block without a long skip.
          drops: whether this block has dropout at all, for a stack of which only some layers have it; None for yes.
        """
        width, shared = h.shape[-1], (self.heads, self.dtype, self.qk_norm, self.norm_eps, self.attention)

        def norm(h: Array, eps: float, name: str) -> Array:
            if self.norm == "layer":
                return plain_norm(h, eps, self.dtype)
            return nn.RMSNorm(epsilon=eps, dtype=self.dtype, name=name)(h)

        if skip is not None:
            h = Dense(width, dtype=self.dtype, name="skip")(jnp.concatenate([h, skip], axis=-1))
        parts = Modulation(6, width, self.dtype, name="modulation")(c)
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = parts
        a = modulate(norm(h, self.norm_eps, "attention_norm"), shift_1, scale_1)
        a = MultiHeadAttention(*shared, name="attention")(a, rotation=rotation)
        h = h + gate_1 * Dropout(self.dropout, name="attention_dropout")(a, keys, drops)
        if context is not None:
            cross = MultiHeadAttention(*shared, zero=True, name="cross_attention")
            h = h + cross(h, context.values, context.mask)
        a = modulate(norm(h, self.feed_forward_norm_eps, "feed_forward_norm"), shift_2, scale_2)
        feed_forward = FeedForward(self.hidden, self.activation, self.dtype, self.dropout, name="feed_forward")
        return h + gate_2 * feed_forward(a, keys, drops)


class OutputLayer(nn.Module):
    """The last layer of a diffusion transformer: a norm, a scale and a shift, and a dense layer that starts at zero.

    Attributes:
      features: the numbers of a patch.
      norm: as for `TransformerBlock`.
      norm_eps: number added to the variance or the mean square.
      dtype: type of the result and of the computation.
    """

    features: int
    norm: Literal["layer", "rms"]
    norm_eps: float
    dtype: DTypeLike

    @nn.compact
    def __call__(
        self, h: Float[Array, "batch n width"], c: Float[Array, "batch condition"]
    ) -> Float[Array, "batch n features"]:
        """Maps tokens to the numbers of their patches."""
        shift, scale = Modulation(2, h.shape[-1], self.dtype, name="modulation")(c)
        if self.norm == "layer":
            h = plain_norm(h, self.norm_eps, self.dtype)
        else:
            h = nn.RMSNorm(epsilon=self.norm_eps, dtype=self.dtype, name="norm")(h)
        zeros = nn.initializers.zeros
        return Dense(self.features, dtype=self.dtype, kernel_init=zeros, name="dense")(modulate(h, shift, scale))
