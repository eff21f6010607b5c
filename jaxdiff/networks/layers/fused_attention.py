"""Attention by fused kernels: cuDNN's on GPUs, and that of JAX's Pallas on TPUs."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxdiff.checks import message, require

# The TPU kernel reads keys in blocks of this length.
_BLOCK = 128


def attend_by_cudnn(
    query: Float[Array, "batch n heads c"],
    key: Float[Array, "batch m heads c"],
    value: Float[Array, "batch m heads c"],
    mask: Bool[Array, "batch m"] | None,
    bias: Float[Array, "#batch #heads n m"] | None,
    causal: bool,
    scale: float,
) -> Float[Array, "batch n heads c"]:
    """The function of `attend` by the flash attention of cuDNN.

    Raises:
      ValueError: the platform is not a GPU, or the compute type is not one of cuDNN's.
    """
    _check_platform("cudnn", "gpu", "GPUs")
    half = query.dtype in (jnp.bfloat16, jnp.float16)
    require(half, "attention", "cudnn", f"'xla' with the compute type {query.dtype}: cuDNN's is bfloat16 or float16")
    n, m = query.shape[1], key.shape[1]
    seen = None if mask is None else jnp.broadcast_to(mask[:, None, None, :], (mask.shape[0], 1, n, m))
    added = None if bias is None else jnp.broadcast_to(bias, (*bias.shape[:2], n, m)).astype(query.dtype)
    return jax.nn.dot_product_attention(
        query, key, value, added, seen, scale=scale, is_causal=causal, implementation="cudnn"
    )


def attend_by_pallas(
    query: Float[Array, "batch n heads c"],
    key: Float[Array, "batch m heads c"],
    value: Float[Array, "batch m heads c"],
    mask: Bool[Array, "batch m"] | None,
    bias: Float[Array, "#batch #heads n m"] | None,
    causal: bool,
    scale: float,
) -> Float[Array, "batch n heads c"]:
    """The function of `attend` by the flash attention for TPUs in JAX's Pallas.

    Raises:
      ValueError: the platform is not a TPU, or this JAX has no such kernel.
    """
    _check_platform("pallas", "tpu", "TPUs; cuDNN's kernel is the one for GPUs")
    return flash_on_tpu(query, key, value, mask, bias, causal, scale)


def flash_on_tpu(
    query: Float[Array, "batch n heads c"],
    key: Float[Array, "batch m heads c"],
    value: Float[Array, "batch m heads c"],
    mask: Bool[Array, "batch m"] | None,
    bias: Float[Array, "#batch #heads n m"] | None,
    causal: bool,
    scale: float,
) -> Float[Array, "batch n heads c"]:
    """Flash attention for TPUs on sequences of any length.

    The kernel takes whole blocks of keys. Keys are padded, and padding and hidden keys belong to another segment than
    the queries, which therefore do not see them.

    Raises:
      ValueError: this JAX has no such kernel.
    """
    try:
        from jax.experimental.pallas.ops.tpu import flash_attention as kernel
    except ImportError as error:
        allowed = f"'xla' with JAX {jax.__version__}, which has no Pallas kernel of attention"
        raise ValueError(message("attention", "pallas", allowed)) from error
    batch, n, heads, _ = query.shape
    m = key.shape[1]
    n_pad, m_pad = -n % _BLOCK, -m % _BLOCK
    if bias is not None:
        # The kernel multiplies the bias by the scale too.
        bias = jnp.broadcast_to(bias, (batch, heads, n, m)).astype(jnp.float32) / scale
        bias = jnp.pad(bias, ((0, 0), (0, 0), (0, n_pad), (0, m_pad)))
    segments = None
    if mask is not None or m_pad:
        seen = jnp.ones((batch, m), bool) if mask is None else mask
        seen = jnp.pad(seen, ((0, 0), (0, m_pad))).astype(jnp.int32)
        segments = kernel.SegmentIds(q=jnp.ones((batch, n + n_pad), jnp.int32), kv=seen)

    def blocks(x: Array, pad: int) -> Array:
        return jnp.pad(jnp.swapaxes(x, 1, 2), ((0, 0), (0, 0), (0, pad), (0, 0)))

    out = kernel.flash_attention(
        blocks(query, n_pad), blocks(key, m_pad), blocks(value, m_pad), bias, segments, causal=causal, sm_scale=scale
    )
    return jnp.swapaxes(out, 1, 2)[:, :n].astype(query.dtype)


def _check_platform(name: str, needed: str, where: str) -> None:
    platform = jax.default_backend()
    require(platform == needed, "attention", name, f"'xla' on this platform, {platform}: {name!r} runs on {where}")
