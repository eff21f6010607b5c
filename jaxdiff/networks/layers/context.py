"""The tokens that a network attends to: those of all token conditions, one after the other."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from jaxdiff.networks.inputs import Specs


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
    dense layer of the condition's name brings the tokens of each condition to the width of the context.

    Attributes:
      specs: the conditions of the network; only tokens matter here.
      width: the width of the context; None for the width of the widest condition.
      norm: whether the context is normalised (layer normalisation), as in Imagen (Saharia et al. 2022, section 2.4).
      dtype: compute type; parameters are float32.
    """

    specs: Specs
    width: int | None
    norm: bool
    dtype: DTypeLike

    @nn.compact
    def __call__(self, given: Mapping[str, Any]) -> Context:
        """Maps the result of `read_cond` to the context."""
        tokens = [(name, spec) for name, spec in self.specs if spec.channel == "tokens"]
        width = max(spec.shape[1] for _, spec in tokens) if self.width is None else self.width
        parts, masks = [], []
        for name, _ in tokens:
            values = jnp.asarray(given[name]["values"]).astype(self.dtype)
            if self.width is not None or len(tokens) > 1:
                values = nn.Dense(width, dtype=self.dtype, name=name)(values)
            parts.append(values)
            masks.append(jnp.asarray(given[name]["mask"]))
        values = jnp.concatenate(parts, axis=1)
        if self.norm:
            values = nn.LayerNorm(1e-5, dtype=self.dtype, use_fast_variance=False, name="context_norm")(values)
        return Context(values, jnp.concatenate(masks, axis=1))
