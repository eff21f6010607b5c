"""The text encoder of CLIP."""

from collections.abc import Callable
from functools import partial
from typing import ClassVar, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxdiff.checks import integer, one_of, positive
from jaxdiff.networks.inputs import check_settings
from jaxdiff.networks.layers.dense import Dense
from jaxdiff.networks.layers.pre_norm_block import pre_norm_block
from jaxdiff.networks.module import Network
from jaxdiff.networks.text.tokens import Tokens, as_tokens, check_ids

Activation = Literal["quick_gelu", "gelu"]


def quick_gelu(x: Array) -> Array:
    """`x sigmoid(1.702 x)`, an approximation of gelu (Hendrycks & Gimpel 2016, arXiv 1606.08415, section 2)."""
    return x * jax.nn.sigmoid(1.702 * x)


_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "quick_gelu": quick_gelu,
    "gelu": partial(nn.gelu, approximate=False),
}


class CLIPText(Network):
    """The text encoder of CLIP (Radford et al. 2021, arXiv 2103.00020, section 2.4).

        h = E[ids] + P
        h = h + W_out attend(W_qkv norm(h))           then
        h = h + W_2 activation(W_1 norm(h))           depth times
        y = norm(h)
        pooled = W_project y[end]

    E is a table of the vocabulary, and P is a table of positions. A token attends to itself and to the visible tokens
    before it. `end` is the first token that ends the text. The values of hidden tokens are zero.

    The defaults are CLIP ViT-L/14 without its projection, the encoder of Stable Diffusion 1. Stable Diffusion XL and 3
    use the tokens before the last block (`before_last`), and the projected vector. The published models of latent
    diffusion are told the padding after the end too: their mask hides nothing.

    Attributes:
      vocabulary: number of ids.
      width: length of the vector of a token.
      depth: number of pairs of an attention layer and a feed-forward layer.
      heads: number of attention heads.
      length: largest number of tokens.
      mlp_width: width inside the feed-forward layers; None for `4 * width`.
      activation: `"quick_gelu"` (the models of OpenAI) or the exact `"gelu"` (H and bigG of OpenCLIP).
      projection: length of the pooled vector; None for no projection.
      before_last: whether the tokens are the h before the last block, without the final norm, and not y.
      end_id: the id of the token that ends a text; None for the largest id of a text.
      norm_eps: number added to the variances.
      dtype: compute type, such as `"bfloat16"`; None for float32.
    """

    gives: ClassVar[Literal["tokens"]] = "tokens"
    hidden: ClassVar[str] = r"^block_\d+_.+\.kernel$"

    vocabulary: int = 49408
    width: int = 768
    depth: int = 12
    heads: int = 12
    length: int = 77
    mlp_width: int | None = None
    activation: Activation = "quick_gelu"
    projection: int | None = None
    before_last: bool = False
    end_id: int | None = 49407
    norm_eps: float = 1e-5
    dtype: str | None = None

    def __post_init__(self) -> None:
        check_settings(self.dtype, depth=self.depth)
        one_of("activation", self.activation, _ACTIVATIONS)
        super().__post_init__()

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
        return self.tokens_and_pooled(ids, mask)[0]

    def pooled(self, ids: Int[Array, "batch n"], mask: Bool[Array, "batch n"]) -> Float[Array, "batch features"]:
        """One vector per text, projected if there is a projection. Arguments and errors are those of a call.

        Returns:
          `[batch, projection]` or `[batch, width]`, in float32.
        """
        return self.tokens_and_pooled(ids, mask)[1]

    @nn.compact
    def tokens_and_pooled(
        self, ids: Int[Array, "batch n"], mask: Bool[Array, "batch n"]
    ) -> tuple[Tokens, Float[Array, "batch features"]]:
        """The results of a call and of `pooled` together. Arguments and errors are those of a call."""
        mlp_width = 4 * self.width if self.mlp_width is None else self.mlp_width
        features = self.width if self.projection is None else self.projection
        sizes = {"vocabulary": self.vocabulary, "width": self.width, "length": self.length}
        for name, size in {**sizes, "mlp_width": mlp_width, "projection": features}.items():
            integer(name, size)
        positive("norm_eps", self.norm_eps)
        ids, mask = check_ids(ids, mask, self.length)
        dtype = jnp.float32 if self.dtype is None else jnp.dtype(self.dtype)

        init = nn.initializers.normal(0.02)
        table = nn.Embed(self.vocabulary, self.width, embedding_init=init, dtype=dtype, name="token_table")
        positions = self.param("positions", init, (self.length, self.width))
        h = before = table(ids) + positions[None, : ids.shape[1]].astype(dtype)
        block = partial(
            pre_norm_block,
            heads=self.heads,
            inner=mlp_width,
            activation=_ACTIVATIONS[self.activation],
            norm_eps=self.norm_eps,
            dtype=dtype,
            causal=True,
        )
        for i in range(self.depth):
            before, h = h, block(h, mask, f"block_{i}")
        y = nn.LayerNorm(self.norm_eps, dtype=jnp.float32, use_fast_variance=False, name="norm_out")(h)

        # `argmax` finds the first of equal values.
        end = jnp.argmax(jnp.where(mask, ids if self.end_id is None else ids == self.end_id, -1), axis=1)
        pooled = jnp.take_along_axis(y, end[:, None, None], axis=1)[:, 0]
        if self.projection is not None:
            pooled = Dense(self.projection, use_bias=False, dtype=jnp.float32, name="project")(pooled)
        return as_tokens(before if self.before_last else y, mask), pooled
