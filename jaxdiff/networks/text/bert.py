"""BERT, and the encoders of sentences that have its shape."""

from typing import ClassVar, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxdiff.checks import integer, positive, require
from jaxdiff.networks.inputs import check_settings
from jaxdiff.networks.layers.dense import Dense
from jaxdiff.networks.layers.multi_head import MultiHeadAttention
from jaxdiff.networks.module import Network
from jaxdiff.networks.text.tokens import Tokens, as_tokens, check_ids, mean_of

# The square of a shorter vector is no number of float32, and such a vector has no direction.
_SHORTEST = 1e-12


class BERT(Network):
    """BERT (Devlin et al. 2018, arXiv 1810.04805), a transformer encoder with normalisation after each layer.

        h = norm(E[ids] + P + T[types])
        h = norm(h + W_out attend(W_qkv h))      then
        h = norm(h + W_2 gelu(W_1 h))            depth times

    E, P and T are tables of the vocabulary, of positions and of types of tokens. `gelu` is the exact one. Tokens attend
    to all visible tokens. The values of hidden tokens are zero. The vector of a text is the mean of its visible tokens,
    as in Sentence-BERT (Reimers & Gurevych 2019, arXiv 1908.10084).

    The defaults are all-MiniLM-L6-v2 (Wang et al. 2020, arXiv 2002.10957) without the pooling layer of BERT, which
    encoders of sentences do not use.

    Attributes:
      vocabulary: number of ids.
      width: length of the vector of a token.
      depth: number of pairs of an attention layer and a feed-forward layer.
      heads: number of attention heads.
      length: largest number of tokens.
      mlp_width: width inside the feed-forward layers; None for `4 * width`.
      token_types: number of types of tokens.
      normalise: whether the vectors of texts have the length 1.
      norm_eps: number added to the variances.
      dtype: compute type, such as `"bfloat16"`; None for float32.
    """

    gives: ClassVar[Literal["tokens"]] = "tokens"
    hidden: ClassVar[str] = r"^block_\d+_.+\.kernel$"

    vocabulary: int = 30522
    width: int = 384
    depth: int = 6
    heads: int = 12
    length: int = 512
    mlp_width: int | None = None
    token_types: int = 2
    normalise: bool = True
    norm_eps: float = 1e-12
    dtype: str | None = None

    def __post_init__(self) -> None:
        check_settings(self.dtype, depth=self.depth)
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        ids: Int[Array, "batch n"],
        mask: Bool[Array, "batch n"],
        types: Int[Array, "batch n"] | None = None,
    ) -> Tokens:
        """Encodes texts.

        Args:
          ids: integers from 0 to `vocabulary - 1`, `[batch, n]` with n at most `length`. An id above them gives NaN,
            because values under `jit` are unknown and cannot raise an error.
          mask: which tokens are visible, `[batch, n]`. Every text needs a visible token.
          types: the types of the tokens, integers `[batch, n]`; None for type 0.

        Returns:
          `{"values": [batch, n, width], "mask": mask}`, the values in float32.

        Raises:
          ValueError: a shape or a setting is not allowed.
          TypeError: `ids` or `types` are not integers, or `mask` is not boolean.
        """
        mlp_width = 4 * self.width if self.mlp_width is None else self.mlp_width
        for name in ("vocabulary", "width", "length", "token_types"):
            integer(name, getattr(self, name))
        integer("mlp_width", mlp_width)
        positive("norm_eps", self.norm_eps)
        ids, mask = check_ids(ids, mask, self.length)
        types = jnp.zeros_like(ids) if types is None else jnp.asarray(types)
        require(types.shape == ids.shape, "types.shape", types.shape, f"{ids.shape}")
        require(jnp.issubdtype(types.dtype, jnp.integer), "types.dtype", types.dtype, "integer types", TypeError)
        dtype = jnp.float32 if self.dtype is None else jnp.dtype(self.dtype)

        def norm(h: Array, name: str) -> Array:
            return nn.LayerNorm(self.norm_eps, dtype=dtype, use_fast_variance=False, name=name)(h)

        init = nn.initializers.normal(0.02)
        table = nn.Embed(self.vocabulary, self.width, embedding_init=init, dtype=dtype, name="token_table")
        type_table = nn.Embed(self.token_types, self.width, embedding_init=init, dtype=dtype, name="type_table")
        positions = self.param("positions", init, (self.length, self.width))
        h = norm(table(ids) + positions[None, : ids.shape[1]].astype(dtype) + type_table(types), "norm_in")
        for i in range(self.depth):
            r = MultiHeadAttention(self.heads, dtype, name=f"block_{i}_attention")(h, mask=mask)
            h = norm(h + r, f"block_{i}_attention_norm")
            r = nn.gelu(Dense(mlp_width, dtype=dtype, name=f"block_{i}_in")(h), approximate=False)
            h = norm(h + Dense(self.width, dtype=dtype, name=f"block_{i}_out")(r), f"block_{i}_norm")
        return as_tokens(h, mask)

    def pooled(
        self,
        ids: Int[Array, "batch n"],
        mask: Bool[Array, "batch n"],
        types: Int[Array, "batch n"] | None = None,
    ) -> Float[Array, "batch width"]:
        """One vector per text, `[batch, width]`: the mean over visible tokens. The errors are those of a call."""
        mean = mean_of(self(ids, mask, types))
        if not self.normalise:
            return mean
        return mean / jnp.maximum(jnp.linalg.norm(mean, axis=-1, keepdims=True), _SHORTEST)
