"""The arguments and the results of text encoders."""

from typing import TypedDict

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxdiff.checks import require


class Tokens(TypedDict):
    """One vector per token of each text.

    Attributes:
      values: `[batch, n, width]`.
      mask: which tokens are visible, `[batch, n]`.
    """

    values: Float[Array, "batch n width"]
    mask: Bool[Array, "batch n"]


def check_ids(
    ids: Int[Array, "batch n"], mask: Bool[Array, "batch n"], length: int | None = None
) -> tuple[Int[Array, "batch n"], Bool[Array, "batch n"]]:
    """The ids of texts and their mask as arrays, checked.

    Args:
      ids: integers, `[batch, n]`.
      mask: which tokens are visible, `[batch, n]`.
      length: the largest n; None for any.

    Raises:
      ValueError: a shape is not allowed.
      TypeError: `ids` are not integers, or `mask` is not boolean.
    """
    ids, mask = jnp.asarray(ids), jnp.asarray(mask)
    fits = ids.ndim == 2 and ids.shape[1] >= 1 and (length is None or ids.shape[1] <= length)
    limit = "at least 1" if length is None else f"from 1 to {length}"
    require(fits, "ids.shape", ids.shape, f"[batch, n] with n {limit}")
    require(jnp.issubdtype(ids.dtype, jnp.integer), "ids.dtype", ids.dtype, "integer types", TypeError)
    require(mask.shape == ids.shape, "mask.shape", mask.shape, f"{ids.shape}")
    require(mask.dtype == bool, "mask.dtype", mask.dtype, "bool", TypeError)
    return ids, mask


def as_tokens(values: Float[Array, "batch n width"], mask: Bool[Array, "batch n"]) -> Tokens:
    """The result of a text encoder, in float32. The values of hidden tokens are zero."""
    return {"values": jnp.where(mask[..., None], values.astype(jnp.float32), 0), "mask": mask}


def mean_of(tokens: Tokens) -> Float[Array, "batch width"]:
    """The mean over the visible tokens of each text."""
    return tokens["values"].sum(axis=1) / jnp.maximum(tokens["mask"].sum(axis=1, keepdims=True), 1)
