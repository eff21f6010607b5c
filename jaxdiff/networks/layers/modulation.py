"""Adaptive normalisation: scales, shifts and gates that a vector of conditions decides."""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from jaxdiff.networks.layers.dense import Dense


class Modulation(nn.Module):
    """Vectors by which a block is scaled, shifted and gated: `W silu(c) + b` in equal parts, which start at zero.

    This is the adaLN-Zero of DiT (Peebles & Xie 2023, arXiv 2212.09748, section 3.2).

    Attributes:
      parts: the number of vectors.
      width: the length of a vector.
      dtype: compute type; parameters are float32.
    """

    parts: int
    width: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, c: Float[Array, "batch condition"]) -> list[Float[Array, "batch 1 width"]]:
        """The vectors of the conditions `c` `[batch, condition]`, each `[batch, 1, width]`."""
        zeros = nn.initializers.zeros
        made = Dense(self.parts * self.width, dtype=self.dtype, kernel_init=zeros, name="dense")(nn.silu(c))
        return jnp.split(made[:, None], self.parts, axis=-1)


def modulate(
    x: Float[Array, "batch n width"], shift: Float[Array, "batch 1 width"], scale: Float[Array, "batch 1 width"]
) -> Float[Array, "batch n width"]:
    """`x (1 + scale) + shift`."""
    return x * (1 + scale) + shift


def plain_norm(x: Float[Array, "batch n width"], eps: float, dtype: DTypeLike) -> Float[Array, "batch n width"]:
    """Layer normalisation without parameters, whose statistics are in float32 or wider."""
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    centred = wide - wide.mean(axis=-1, keepdims=True)
    return (centred / jnp.sqrt(jnp.square(centred).mean(axis=-1, keepdims=True) + eps)).astype(dtype)
