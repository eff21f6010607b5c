"""Feed-forward layers of transformers: plain ones and gated ones."""

from typing import Literal, get_args

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Key

from jaxdiff.checks import one_of
from jaxdiff.networks.layers.dense import Dense
from jaxdiff.networks.layers.dropout import Dropout

Activation = Literal["gelu", "silu", "geglu", "swiglu"]


class FeedForward(nn.Module):
    """Two dense layers with a nonlinearity between them.

        "gelu"      W_out gelu(W_in x), with the approximation of gelu by tanh
        "silu"      W_out silu(W_in x)
        "geglu"     W_out (a * gelu(b)),  [a, b] = W_in x, with the exact gelu
        "swiglu"    W_out (silu(a) * b),  [a, b] = W_in x

    Gated layers: Shazeer 2020 (arXiv 2002.05202). The order of a and b is that of diffusers for GEGLU, and that of JiT
    for SwiGLU.

    Attributes:
      hidden: the width between the two layers.
      activation: the nonlinearity.
      dtype: compute type; parameters are float32.
      dropout: dropout rate before the second layer.
      features: the width of the result; None for that of x.
    """

    hidden: int
    activation: Activation
    dtype: DTypeLike
    dropout: float = 0.0
    features: int | None = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch *n width"],
        keys: Key[Array, " batch"] | None = None,
        drops: Bool[Array, ""] | None = None,
    ) -> Float[Array, "batch *n features"]:
        """Applies the layer to the last axis of `x`, with the `keys` and `drops` of `Dropout`.

        Raises:
          ValueError: the activation is unknown.
        """
        one_of("feed_forward", self.activation, get_args(Activation))
        init = nn.initializers.xavier_uniform()
        parts = 2 if self.activation in ("geglu", "swiglu") else 1
        h = Dense(parts * self.hidden, dtype=self.dtype, kernel_init=init, name="in")(x)
        if parts == 1:
            h = nn.gelu(h, approximate=True) if self.activation == "gelu" else nn.silu(h)
        else:
            a, b = jnp.split(h, 2, axis=-1)
            h = a * nn.gelu(b, approximate=False) if self.activation == "geglu" else nn.silu(a) * b
        h = Dropout(self.dropout, name="dropout")(h, keys, drops)
        features = x.shape[-1] if self.features is None else self.features
        return Dense(features, dtype=self.dtype, kernel_init=init, name="out")(h)
