"""Self-attention over all positions of a signal, image or volume."""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from jaxdiff.checks import require
from jaxdiff.networks.norms import GroupNorm


class SelfAttention(nn.Module):
    """Residual multi-head self-attention (Vaswani et al. 2017) over flattened space, as in DDPM and ADM.

        y = (x + W_out attend(W_qkv norm(x))) * skip_scale

    `W_out` starts at zero. The layer does not encode positions: permuting the positions of x permutes the positions of
    y. Logits and softmax are in float32 or wider. Attention is two plain contractions, because fused attention kernels
    have no forward-mode derivative.

    Attributes:
      head_channels: channels of one head; None for a single head.
      norm_groups: groups of the group normalisation; None for the rule of `group_count`.
      norm_eps: number added to the variance in the group normalisation.
      skip_scale: factor of the residual sum.
      dtype: compute type; parameters are float32.
    """

    head_channels: int | None
    norm_groups: int | None
    norm_eps: float
    skip_scale: float
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "batch *space channels"]) -> Float[Array, "batch *space channels"]:
        """Applies the layer to `x` `[batch, *space, channels]`; the result has the same shape.

        Raises:
          ValueError: `head_channels` does not divide the channels.
        """
        batch, channels = x.shape[0], x.shape[-1]
        size = channels if self.head_channels is None else self.head_channels
        require(size >= 1 and channels % size == 0, "head_channels", size, f"divisors of {channels} channels, or None")

        h = GroupNorm(self.norm_groups, self.norm_eps, self.dtype, name="norm")(x).reshape(batch, -1, channels)
        h = nn.Dense(3 * channels, dtype=self.dtype, name="qkv")(h)
        query, key, value = jnp.moveaxis(h.reshape(batch, -1, 3, channels // size, size), 2, 0)
        wide = jnp.promote_types(self.dtype, jnp.float32)
        logits = jnp.einsum("bqhc,bkhc->bhqk", query, key, preferred_element_type=wide)
        weights = nn.softmax(logits / size**0.5, axis=-1).astype(self.dtype)
        h = jnp.einsum("bhqk,bkhc->bqhc", weights, value).reshape(x.shape)
        h = nn.Dense(channels, dtype=self.dtype, kernel_init=nn.initializers.zeros, name="out")(h)
        return (x + h) * self.skip_scale
