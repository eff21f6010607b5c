"""The encoder of T5 version 1.1."""

import math
from typing import ClassVar, Literal

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxdiff.checks import integer, positive, require
from jaxdiff.networks.inputs import check_settings
from jaxdiff.networks.layers.dense import Dense
from jaxdiff.networks.layers.multi_head import MultiHeadAttention
from jaxdiff.networks.module import Network
from jaxdiff.networks.text.tokens import Tokens, as_tokens, check_ids, mean_of


def relative_buckets(n: int, buckets: int, max_distance: int) -> Int[np.ndarray, "n n"]:
    """The bucket of the distance from each query to each key (Raffel et al. 2020, arXiv 1910.10683, section 2.1).

    Keys after the query have the second half of the buckets. Of each half, the first half has one bucket per distance,
    and the buckets of the second half grow geometrically up to `max_distance`. Larger distances share the last bucket.

    Args:
      n: the number of tokens.
      buckets: the number of buckets, a multiple of 4.
      max_distance: the distance from which on all distances share a bucket, above `buckets / 4`.

    Returns:
      Integers, `[n, n]`, the queries first.
    """
    distance = np.arange(n)[None, :] - np.arange(n)[:, None]
    half, exact = buckets // 2, buckets // 4
    octaves = np.log(np.maximum(np.abs(distance), exact) / exact) / math.log(max_distance / exact)
    # The tolerance is for quotients of logarithms that are whole numbers but for rounding.
    far = exact + np.floor(octaves * (half - exact) + 1e-9).astype(int)
    bucket = np.where(np.abs(distance) < exact, np.abs(distance), np.minimum(far, half - 1))
    return bucket + half * (distance > 0)


class T5Encoder(Network):
    """The encoder of T5 version 1.1 (Raffel et al. 2020, arXiv 1910.10683; Shazeer 2020, arXiv 2002.05202).

        h = E[ids]
        h = h + W_out attend(W_qkv norm(h), bias)          then
        h = h + W_2 (gelu(a) * b),  [a, b] = W_1 norm(h)   depth times
        y = norm(h)

    E is a table of the vocabulary. Norms divide by the root mean square. No layer has a bias. The logits of attention
    are not divided by the root of the length of the vectors. All layers add the same learned numbers to them, one per
    head and bucket of distances (`relative_buckets`). `gelu` is the approximation by tanh. The values of hidden tokens
    are zero. Texts may have any number of tokens.

    The defaults are T5 v1.1 XXL (4,762,310,656 parameters), the encoder of Imagen, Stable Diffusion 3 and PixArt. With
    `"float16"` its numbers overflow.

    Attributes:
      vocabulary: number of ids.
      width: length of the vector of a token.
      depth: number of pairs of an attention layer and a feed-forward layer.
      heads: number of attention heads.
      head_width: length of the vectors of a head.
      mlp_width: width inside the feed-forward layers.
      buckets: number of buckets of distances.
      max_distance: the distance from which on all distances share a bucket.
      norm_eps: number added to the mean squares.
      dtype: compute type, such as `"bfloat16"`; None for float32.
    """

    gives: ClassVar[Literal["tokens"]] = "tokens"
    hidden: ClassVar[str] = r"^block_\d+_.+\.kernel$"

    vocabulary: int = 32128
    width: int = 4096
    depth: int = 24
    heads: int = 64
    head_width: int = 64
    mlp_width: int = 10240
    buckets: int = 32
    max_distance: int = 128
    norm_eps: float = 1e-6
    dtype: str | None = None

    def __post_init__(self) -> None:
        check_settings(self.dtype, depth=self.depth)
        super().__post_init__()

    @nn.compact
    def __call__(self, ids: Int[Array, "batch n"], mask: Bool[Array, "batch n"]) -> Tokens:
        """Encodes texts.

        Args:
          ids: integers from 0 to `vocabulary - 1`, `[batch, n]`. An id above them gives NaN, because values under `jit`
            are unknown and cannot raise an error.
          mask: which tokens are visible, `[batch, n]`. Every text needs a visible token.

        Returns:
          `{"values": [batch, n, width], "mask": mask}`, the values in float32.

        Raises:
          ValueError: a shape or a setting is not allowed.
          TypeError: `ids` are not integers, or `mask` is not boolean.
        """
        for name in ("vocabulary", "width", "heads", "head_width", "mlp_width", "buckets"):
            integer(name, getattr(self, name))
        require(self.buckets % 4 == 0, "buckets", self.buckets, "multiples of 4")
        integer("max_distance", self.max_distance, least=self.buckets // 4 + 1)
        positive("norm_eps", self.norm_eps)
        ids, mask = check_ids(ids, mask)
        dtype = jnp.float32 if self.dtype is None else jnp.dtype(self.dtype)

        init = nn.initializers.normal(1.0)
        h = nn.Embed(self.vocabulary, self.width, embedding_init=init, dtype=dtype, name="token_table")(ids)
        places = relative_buckets(ids.shape[1], self.buckets, self.max_distance)
        table = nn.Embed(self.buckets, self.heads, embedding_init=init, name="distance_table")
        bias = jnp.moveaxis(table(jnp.asarray(places)), -1, 0)[None]
        for i in range(self.depth):
            r = nn.RMSNorm(self.norm_eps, dtype=dtype, name=f"block_{i}_attention_norm")(h)
            attention = MultiHeadAttention(
                self.heads,
                dtype,
                zero=True,
                head_width=self.head_width,
                use_bias=False,
                scale=1.0,
                name=f"block_{i}_attention",
            )
            h = h + attention(r, mask=mask, bias=bias)
            r = nn.RMSNorm(self.norm_eps, dtype=dtype, name=f"block_{i}_norm")(h)
            r = Dense(2 * self.mlp_width, use_bias=False, dtype=dtype, name=f"block_{i}_in")(r)
            a, b = jnp.split(r, 2, axis=-1)
            r, zeros = nn.gelu(a, approximate=True) * b, nn.initializers.zeros
            h = h + Dense(self.width, use_bias=False, dtype=dtype, kernel_init=zeros, name=f"block_{i}_out")(r)
        return as_tokens(nn.RMSNorm(self.norm_eps, dtype=jnp.float32, name="norm_out")(h), mask)

    def pooled(self, ids: Int[Array, "batch n"], mask: Bool[Array, "batch n"]) -> Float[Array, "batch width"]:
        """One vector per text, `[batch, width]`: the mean over visible tokens. The errors are those of a call."""
        return mean_of(self(ids, mask))
