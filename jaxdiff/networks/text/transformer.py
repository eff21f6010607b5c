"""A small transformer encoder over the bytes of texts."""

from typing import ClassVar, Literal, TypedDict

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxdiff.checks import integer, require
from jaxdiff.networks.inputs import check_settings
from jaxdiff.networks.layers.attention import MaskedAttention
from jaxdiff.networks.module import Network


class Tokens(TypedDict):
    """One vector per token of each text.

    Attributes:
      values: `[batch, n, width]`.
      mask: which tokens are visible, `[batch, n]`.
    """

    values: Float[Array, "batch n width"]
    mask: Bool[Array, "batch n"]


class TextTransformer(Network):
    """Transformer encoder with normalisation before each layer, over ids of bytes (Vaswani et al. 2017).

        h = E[ids] + P
        h = h + W_out attend(W_qkv norm(h))      then
        h = h + W_2 gelu(W_1 norm(h))            depth times
        y = norm(h)

    E is a table of the vocabulary, and P is a table of positions. `W_out` and `W_2` start at zero. Tokens attend
    to all visible tokens, before and after them. Hidden tokens are padding, and their values are zero.

    Attributes:
      vocabulary: number of ids. The default counts 256 bytes, padding, begin and end.
      width: length of the vector of a token.
      depth: number of pairs of an attention layer and a dense layer.
      heads: number of attention heads.
      length: largest number of tokens.
      dtype: compute type, such as `"bfloat16"`; None for float32.
    """

    gives: ClassVar[Literal["tokens"]] = "tokens"

    vocabulary: int = 259
    width: int = 128
    depth: int = 2
    heads: int = 4
    length: int = 64
    dtype: str | None = None

    def __post_init__(self) -> None:
        check_settings(self.dtype, depth=self.depth)
        super().__post_init__()

    @nn.compact
    def __call__(self, ids: Int[Array, "batch n"], mask: Bool[Array, "batch n"]) -> Tokens:
        """Encodes texts.

        Args:
          ids: integers from 0 to `vocabulary - 1`, `[batch, n]` with n at most `length`. An id above them gives NaN,
            because values under `jit` are unknown and cannot raise an error.
          mask: which tokens are visible, `[batch, n]`. Every text needs a visible token.

        Returns:
          `{"values": [batch, n, width], "mask": mask}`, the values in float32.

        Raises:
          ValueError: a shape or a setting is not allowed.
          TypeError: `ids` are not integers, or `mask` is not boolean.
        """
        ids, mask = jnp.asarray(ids), jnp.asarray(mask)
        for name in ("vocabulary", "width", "length"):
            integer(name, getattr(self, name))
        fits = ids.ndim == 2 and 1 <= ids.shape[1] <= self.length
        require(fits, "ids.shape", ids.shape, f"[batch, n] with n from 1 to {self.length}")
        require(jnp.issubdtype(ids.dtype, jnp.integer), "ids.dtype", ids.dtype, "integer types", TypeError)
        require(mask.shape == ids.shape, "mask.shape", mask.shape, f"{ids.shape}")
        require(mask.dtype == bool, "mask.dtype", mask.dtype, "bool", TypeError)
        dtype = jnp.float32 if self.dtype is None else jnp.dtype(self.dtype)

        init = nn.initializers.normal(0.02)
        table = nn.Embed(self.vocabulary, self.width, embedding_init=init, dtype=dtype, name="token_table")
        positions = self.param("positions", init, (self.length, self.width))
        h = table(ids) + positions[None, : ids.shape[1]].astype(dtype)
        for i in range(self.depth):
            r = nn.LayerNorm(dtype=dtype, use_fast_variance=False, name=f"block_{i}_attention_norm")(h)
            h = h + MaskedAttention(self.heads, dtype, name=f"block_{i}_attention")(r, mask)
            r = nn.LayerNorm(dtype=dtype, use_fast_variance=False, name=f"block_{i}_norm")(h)
            r = nn.gelu(nn.Dense(4 * self.width, dtype=dtype, name=f"block_{i}_in")(r))
            zeros = nn.initializers.zeros
            h = h + nn.Dense(self.width, dtype=dtype, kernel_init=zeros, name=f"block_{i}_out")(r)
        h = nn.LayerNorm(dtype=jnp.float32, use_fast_variance=False, name="norm_out")(h)
        return {"values": jnp.where(mask[..., None], h, 0), "mask": mask}

    def pooled(self, ids: Int[Array, "batch n"], mask: Bool[Array, "batch n"]) -> Float[Array, "batch width"]:
        """One vector per text, `[batch, width]`: the mean over visible tokens. The errors are those of a call."""
        tokens = self(ids, mask)
        return tokens["values"].sum(axis=1) / jnp.maximum(tokens["mask"].sum(axis=1, keepdims=True), 1)
