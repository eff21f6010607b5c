"""Attention: one function with several implementations, and the self-attention of U-Nets."""

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from jaxdiff.checks import one_of, require
from jaxdiff.networks.layers.context import Context
from jaxdiff.networks.layers.dense import Dense
from jaxdiff.networks.layers.fused_attention import attend_by_cudnn, attend_by_pallas
from jaxdiff.networks.layers.norms import GroupNorm

Implementation = Literal["xla", "cudnn", "pallas"]
# Of more pairs of a query and a key than this, the weights are computed for one block of queries after the other.
_PAIRS, _BLOCK = 2**22, 512


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
    derivatives. Beyond 2^22 pairs of a query and a key, it takes 512 queries at a time, and derivatives compute the
    weights again, so that their memory grows with m and not with n m. `"cudnn"` is the fused kernel of cuDNN on GPUs,
    in bfloat16 or float16. `"pallas"` is the fused kernel for TPUs that JAX has in Pallas. Fused kernels do not store
    the weights. They have reverse-mode derivatives of first order only.

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
    last = jnp.arange(query.shape[1]) if causal else None
    compute = _in_blocks if query.shape[1] * key.shape[1] > _PAIRS and query.shape[1] > _BLOCK else _attend
    return compute(query, key, value, mask, bias, last, scale)


def _attend(
    query: Float[Array, "batch n heads c"],
    key: Float[Array, "batch m heads c"],
    value: Float[Array, "batch m heads c"],
    mask: Bool[Array, "batch m"] | None,
    bias: Float[Array, "#batch #heads n m"] | None,
    last: Int[Array, " n"] | None,
    scale: float,
) -> Float[Array, "batch n heads c"]:
    """Attention by two contractions. `last` is the last key that a query sees; None for all keys."""
    wide = jnp.promote_types(query.dtype, jnp.float32)
    logits = jnp.einsum("bqhc,bkhc->bhqk", query, key, preferred_element_type=wide) * scale
    if bias is not None:
        logits = logits + bias.astype(wide)
    # Minus infinity would give NaN where no key is visible.
    least = jnp.finfo(wide).min / 2
    if mask is not None:
        logits = jnp.where(mask[:, None, None, :], logits, least)
    if last is not None:
        logits = jnp.where(jnp.arange(key.shape[1]) <= last[:, None], logits, least)
    weights = nn.softmax(logits, axis=-1).astype(query.dtype)
    return jnp.einsum("bhqk,bkhc->bqhc", weights, value)


def _in_blocks(
    query: Float[Array, "batch n heads c"],
    key: Float[Array, "batch m heads c"],
    value: Float[Array, "batch m heads c"],
    mask: Bool[Array, "batch m"] | None,
    bias: Float[Array, "#batch #heads n m"] | None,
    last: Int[Array, " n"] | None,
    scale: float,
) -> Float[Array, "batch n heads c"]:
    """`_attend` for one block of queries after the other. The last block is filled up."""
    n = query.shape[1]
    spare = -n % _BLOCK

    def split(x: Array, axis: int) -> Array:
        """The blocks of an array as its first axis."""
        x = jnp.pad(x, [(0, spare if i == axis else 0) for i in range(x.ndim)])
        return jnp.moveaxis(x.reshape(*x.shape[:axis], -1, _BLOCK, *x.shape[axis + 1 :]), axis, 0)

    @jax.checkpoint
    def of_block(block: dict[str, Array]) -> Array:
        return _attend(block["query"], key, value, mask, block.get("bias", shared), block.get("last"), scale)

    blocks = {"query": split(query, 1)}
    shared = bias if bias is not None and bias.shape[2] == 1 else None  # the same for all queries
    if bias is not None and shared is None:
        blocks["bias"] = split(bias, 2)
    if last is not None:
        blocks["last"] = split(last, 0)
    found = jnp.moveaxis(jax.lax.map(of_block, blocks), 0, 1)
    return found.reshape(len(query), n + spare, *query.shape[2:])[:, :n]


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
