"""The tokens of all conditions, as one sequence of one width."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from jaxdiff.networks.inputs import Specs
from jaxdiff.networks.layers.feed_forward import FeedForward


class Context(NamedTuple):
    """The tokens that a network attends to.

    Attributes:
      values: `[batch, m, width]`.
      mask: which tokens are visible, `[batch, m]`.
    """

    values: Float[Array, "batch m width"]
    mask: Bool[Array, "batch m"]


class ContextEmbedding(nn.Module):
    """Projects the tokens of each condition to one width, and puts the sequences one after the other.

    The parameters of a condition have its name. Hidden tokens are set to zero before the projection, so that their
    values change nothing, not even if they are not finite.

    Attributes:
      width: the width of the result.
      specs: the conditions of the network; only tokens matter here.
      dtype: compute type; parameters are float32.
      mlp: whether a projection has two dense layers with gelu between them, as in PixArt-alpha (Chen et al. 2023, arXiv
        2310.00426), or one dense layer, as in SD3.
    """

    width: int
    specs: Specs
    dtype: DTypeLike
    mlp: bool = False

    @nn.compact
    def __call__(self, given: Mapping[str, Any]) -> Context | None:
        """The context of the result of `read_cond`; None without conditions of the channel `tokens`."""
        parts = []
        for name, spec in self.specs:
            if spec.channel == "tokens":
                values, mask = given[name]["values"], given[name]["mask"]
                h = jnp.where(mask[..., None], values, 0).astype(self.dtype)
                if self.mlp:
                    h = FeedForward(self.width, "gelu", self.dtype, features=self.width, name=name)(h)
                else:
                    h = nn.Dense(self.width, dtype=self.dtype, name=name)(h)
                parts.append((h, mask))
        if not parts:
            return None
        return Context(jnp.concatenate([p[0] for p in parts], axis=1), jnp.concatenate([p[1] for p in parts], axis=1))
