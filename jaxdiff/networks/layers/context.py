"""The tokens that a network attends to: those of all token conditions, one after the other."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from jaxdiff.networks.inputs import Specs
from jaxdiff.networks.layers.dense import Dense
from jaxdiff.networks.layers.feed_forward import FeedForward


class Context(NamedTuple):
    """Tokens that attention reads.

    Attributes:
      values: `[batch, n, width]`.
      mask: the tokens that are visible, `[batch, n]`.
    """

    values: Float[Array, "batch n width"]
    mask: Bool[Array, "batch n"]


class JoinedTokens(nn.Module):
    """The tokens of all token conditions, concatenated along the sequence.

    A single condition without a `width` enters as it is, as in Stable Diffusion (Rombach et al. 2022). Otherwise a
    layer of the condition's name brings the tokens of each condition to the width of the context. Hidden tokens are set
    to zero first, so that their values change nothing, not even if they are not finite.

    Attributes:
      specs: the conditions of the network; only tokens matter here.
      dtype: compute type; parameters are float32.
      width: the width of the context; None for the width of the widest condition.
      norm: whether the context is normalised (layer normalisation), as in Imagen (Saharia et al. 2022, section 2.4).
      mlp: whether the layer of a condition is two dense layers with gelu between them, as in PixArt-alpha (Chen et al.
        2023, arXiv 2310.00426), or one dense layer, as in Stable Diffusion 3.
    """

    specs: Specs
    dtype: DTypeLike
    width: int | None = None
    norm: bool = False
    mlp: bool = False

    @nn.compact
    def __call__(self, given: Mapping[str, Any]) -> Context | None:
        """The context of the result of `read_cond`; None without conditions of tokens."""
        tokens = [(name, spec) for name, spec in self.specs if spec.channel == "tokens"]
        if not tokens:
            return None
        width = max(spec.shape[1] for _, spec in tokens) if self.width is None else self.width
        parts, masks = [], []
        for name, _ in tokens:
            mask = jnp.asarray(given[name]["mask"])
            values = jnp.where(mask[..., None], jnp.asarray(given[name]["values"]), 0).astype(self.dtype)
            if self.mlp:
                values = FeedForward(width, "gelu", self.dtype, features=width, name=name)(values)
            elif self.width is not None or len(tokens) > 1:
                values = Dense(width, dtype=self.dtype, name=name)(values)
            parts.append(values)
            masks.append(mask)
        values = jnp.concatenate(parts, axis=1)
        if self.norm:
            values = nn.LayerNorm(1e-5, dtype=self.dtype, use_fast_variance=False, name="context_norm")(values)
        return Context(values, jnp.concatenate(masks, axis=1))
