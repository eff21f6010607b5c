"""The block of EDM2's U-Net, which preserves magnitudes."""

from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Key

from jaxdiff.checks import require
from jaxdiff.networks.layers.attention import attend
from jaxdiff.networks.layers.dropout import Dropout
from jaxdiff.networks.layers.magnitudes import MPWeights, mp_silu, mp_sum, to_unit_magnitude

_MOST = 256.0  # the largest magnitude of an entry, for half precision


class MPAttention(nn.Module):
    """Residual self-attention by cosines over flattened space (Karras et al. 2024, arXiv 2312.02696, figure 21).

        y = mp_sum(x, W_out attend(q, k, v), balance)        q, k, v = W_qkv x, each of magnitude 1 in every head

    Attributes:
      head_channels: channels of one head.
      balance: the share of attention in the sum.
      dtype: compute type; parameters are float32.
    """

    head_channels: int
    balance: float
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "batch *space channels"]) -> Float[Array, "batch *space channels"]:
        """Applies the layer to `x` `[batch, *space, channels]`; the result has the same shape.

        Raises:
          ValueError: `head_channels` does not divide the channels.
        """
        batch, channels, size = x.shape[0], x.shape[-1], self.head_channels
        require(channels % size == 0, "head_channels", size, f"divisors of {channels} channels")
        h = MPWeights(3 * channels, (), self.dtype, name="qkv")(x)
        h = to_unit_magnitude(h.reshape(batch, -1, 3, channels // size, size), (-1,))
        query, key, value = jnp.moveaxis(h, 2, 0)
        h = attend(query, key, value).reshape(x.shape)
        return mp_sum(x, MPWeights(channels, (), self.dtype, name="out")(h), self.balance)


class MPBlock(nn.Module):
    """Residual block (Karras et al. 2024, arXiv 2312.02696, figure 21).

        x = x / magnitude of its channels                                    on the way down, after W_skip
        y = W_2 dropout(mp_silu(W_1 mp_silu(x) (1 + gain W_embedding e)))
        x = mp_sum(x, y, balance)                                            on the way up, with W_skip x
        x = attention(x)                                                     with attention

    The learned gain starts at zero. W_skip is there if the numbers of channels differ. Entries are cut to +-256.

    Attributes:
      features: channels of the result.
      way: whether the block is on the way down or up.
      attention: whether the block ends with attention.
      head_channels: channels of one head of attention.
      balance: the share of the residual branch in the sum.
      attention_balance: the share of attention in its sum.
      dropout: dropout rate, used when keys are given.
      dtype: compute type; parameters are float32.
    """

    features: int
    way: Literal["down", "up"]
    attention: bool
    head_channels: int
    balance: float
    attention_balance: float
    dropout: float
    dtype: DTypeLike

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch *space channels"],
        embedding: Float[Array, "batch width"],
        keys: Key[Array, " batch"] | None = None,
    ) -> Float[Array, "batch *space features"]:
        """Applies the block.

        Args:
          x: `[batch, *space, channels]`.
          embedding: the embedding of time and conditions, `[batch, width]`.
          keys: one random key per example for dropout; None for no dropout.
        """
        window = (3,) * (x.ndim - 2)

        def weights(x: Array, window: tuple[int, ...], name: str, gain: Array | float = 1.0) -> Array:
            y: Array = MPWeights(self.features, window, self.dtype, name=name)(x, gain)
            return y

        changes = x.shape[-1] != self.features
        if self.way == "down":
            x = weights(x, (), "skip") if changes else x
            x = to_unit_magnitude(x, (-1,))
        gain: Array = self.param("gain", nn.initializers.zeros, ())
        scale = 1 + weights(embedding, (), "embedding", gain)
        y = weights(mp_silu(x), window, "conv_in")
        y = mp_silu(y * scale.reshape(len(scale), *(1 for _ in window), -1))
        y = weights(Dropout(self.dropout, name="dropout")(y, keys), window, "conv_out")
        if self.way == "up" and changes:
            x = weights(x, (), "skip")
        x = mp_sum(x, y, self.balance)
        if self.attention:
            x = MPAttention(self.head_channels, self.attention_balance, self.dtype, name="attention")(x)
        return jnp.clip(x, -_MOST, _MOST)
