"""A small transformer encoder over the bytes of texts."""

from functools import partial
from typing import ClassVar, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxdiff.checks import integer
from jaxdiff.networks.inputs import check_settings
from jaxdiff.networks.layers.pre_norm_block import pre_norm_block
from jaxdiff.networks.module import Network
from jaxdiff.networks.text.tokens import Tokens, as_tokens, check_ids, mean_of


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
        for name in ("vocabulary", "width", "length"):
            integer(name, getattr(self, name))
        ids, mask = check_ids(ids, mask, self.length)
        dtype = jnp.float32 if self.dtype is None else jnp.dtype(self.dtype)

        init = nn.initializers.normal(0.02)
        table = nn.Embed(self.vocabulary, self.width, embedding_init=init, dtype=dtype, name="token_table")
        positions = self.param("positions", init, (self.length, self.width))
        h = table(ids) + positions[None, : ids.shape[1]].astype(dtype)
        block = partial(
            pre_norm_block, heads=self.heads, inner=4 * self.width, activation=nn.gelu, norm_eps=1e-6, dtype=dtype
        )
        for i in range(self.depth):
            h = block(h, mask, f"block_{i}")
        return as_tokens(nn.LayerNorm(dtype=jnp.float32, use_fast_variance=False, name="norm_out")(h), mask)

    def pooled(self, ids: Int[Array, "batch n"], mask: Bool[Array, "batch n"]) -> Float[Array, "batch width"]:
        """One vector per text, `[batch, width]`: the mean over visible tokens. The errors are those of a call."""
        return mean_of(self(ids, mask))
