"""Attention: one function with several implementations, and the self-attention of U-Nets."""

from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from jaxdiff.checks import one_of, require
from jaxdiff.networks.layers.context import Context
from jaxdiff.networks.layers.dense import Dense
from jaxdiff.networks.layers.fused_attention import attend_by_cudnn, attend_by_pallas
from jaxdiff.networks.layers.norms import GroupNorm

Implementation = Literal["xla", "cudnn", "pallas"]


def attend(
    query: Float[Array, "batch n heads c"],
    key: Float[Array, "batch m heads c"],
    value: Float[Array, "batch m heads c"],
    mask: Bool[Array, "batch m"] | None = None,
    *,
    bias: Float[Array, "#batch #heads n m"] | None = None,
    causal: bool = False,
    scale: float | None = None,
    implementation: Implementation = "xla",
) -> Float[Array, "batch n heads c"]:
    """Scaled dot-product attention (Vaswani et al. 2017, equation 1) in each head.

        softmax(scale Q K^T + bias) V

    Logits and softmax are in float32 or wider. `"xla"` is two plain contractions, which run everywhere and have all
    derivatives. `"cudnn"` is the fused kernel of cuDNN on GPUs, in bfloat16 or float16. `"pallas"` is the fused kernel
    for TPUs that JAX has in Pallas. Fused kernels do not store the weights. They have reverse-mode derivatives of first
    order only.

    Args:
      query: `[batch, n, heads, c]`.
      key: `[batch, m, heads, c]`.
      value: `[batch, m, heads, c]`.
      mask: the keys that are visible, `[batch, m]`; None for all. Without a visible key, the result is the mean of all
        values with `"xla"`, and undefined with the others.
      bias: numbers that are added to the logits; its shape broadcasts to `[batch, heads, n, m]`.
      causal: whether query i sees only the keys 0 to i.
      scale: factor of the logits; None for `1 / sqrt(c)`.
      implementation: the program that computes it.

    Returns:
      `[batch, n, heads, c]`, in the type of `query`.

    Raises:
      ValueError: the implementation is unknown, or it does not run on this platform or in this type.
    """
    one_of("attention", implementation, ("xla", "cudnn", "pallas"))
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    if implementation == "cudnn":
        return attend_by_cudnn(query, key, value, mask, bias, causal, scale)
    if implementation == "pallas":
        return attend_by_pallas(query, key, value, mask, bias, causal, scale)
    wide = jnp.promote_types(query.dtype, jnp.float32)
    logits = jnp.einsum("bqhc,bkhc->bhqk", query, key, preferred_element_type=wide) * scale
    if bias is not None:
        logits = logits + bias.astype(wide)
    # Minus infinity would give NaN where no key is visible.
    least = jnp.finfo(wide).min / 2
    if mask is not None:
        logits = jnp.where(mask[:, None, None, :], logits, least)
    if causal:
        logits = jnp.where(jnp.tri(query.shape[1], key.shape[1], dtype=bool), logits, least)
    weights = nn.softmax(logits, axis=-1).astype(query.dtype)
    return jnp.einsum("bhqk,bkhc->bqhc", weights, value)


class SelfAttention(nn.Module):
    """Residual multi-head self-attention (Vaswani et al. 2017) over flattened space, as in DDPM and ADM.

        y = (x + W_out attend(W_qkv norm(x))) * skip_scale

    `W_out` starts at zero. The layer does not encode positions: permuting the positions of x permutes the positions of
    y. `attend` is the function of this file. With a context of tokens, the keys and values `W_context c` of the tokens
    stand before those of the positions, as in GLIDE (Nichol et al. 2022, arXiv 2112.10741, section 2.4) and Imagen.

    Attributes:
      head_channels: channels of one head; None for a single head.
      norm_groups: groups of the group normalisation; None for the rule of `group_count`.
      norm_eps: number added to the variance in the group normalisation.
      skip_scale: factor of the residual sum.
      dtype: compute type; parameters are float32.
      identity: whether every position attends only to itself, for perturbed-attention guidance.
    """

    head_channels: int | None
    norm_groups: int | None
    norm_eps: float
    skip_scale: float
    dtype: DTypeLike
    identity: bool = False

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch *space channels"], context: Context | None = None
    ) -> Float[Array, "batch *space channels"]:
        """Applies the layer to `x` `[batch, *space, channels]`; the result has the same shape.

        Raises:
          ValueError: `head_channels` does not divide the channels.
        """
        batch, channels = x.shape[0], x.shape[-1]
        size = channels if self.head_channels is None else self.head_channels
        require(size >= 1 and channels % size == 0, "head_channels", size, f"divisors of {channels} channels, or None")

        h = GroupNorm(self.norm_groups, self.norm_eps, self.dtype, name="norm")(x).reshape(batch, -1, channels)
        h = Dense(3 * channels, dtype=self.dtype, name="qkv")(h)
        query, key, value = jnp.moveaxis(h.reshape(batch, -1, 3, channels // size, size), 2, 0)
        if self.identity:
            h = value
        elif context is None:
            h = attend(query, key, value)
        else:
            told = Dense(2 * channels, dtype=self.dtype, name="context")(context.values)
            told = jnp.moveaxis(told.reshape(*told.shape[:2], 2, channels // size, size), 2, 0)
            key, value = (jnp.concatenate(pair, axis=1) for pair in zip(told, (key, value), strict=True))
            mask = jnp.concatenate([context.mask, jnp.ones(query.shape[:2], bool)], axis=1)
            h = attend(query, key, value, mask)
        h = Dense(channels, dtype=self.dtype, kernel_init=nn.initializers.zeros, name="out")(h.reshape(x.shape))
        return (x + h) * self.skip_scale
