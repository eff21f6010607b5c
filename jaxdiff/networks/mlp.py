"""A residual network for vectors: toy problems in a few dimensions."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdiff import trees
from jaxdiff.networks.conditioning import Cond, Conditioning, check_input
from jaxdiff.networks.dropout import Dropout
from jaxdiff.networks.embeddings import Fourier, Sinusoidal
from jaxdiff.networks.module import Network


class MLP(Network):
    """Residual multi-layer perceptron with pre-normalisation and the conditions of `UNet`.

        h = W_in x
        h = h + W_2 dropout(silu(W_1 norm(h) + W_e e))     num_blocks times, W_2 = 0 at first
        y = W_out norm(h),                                 W_out = 0 at first

    Attributes:
      width: of the hidden layers.
      num_blocks: number of residual blocks.
      embedding: features of the time input, `Sinusoidal(...)` or `Fourier(...)`.
      num_classes: number of classes, 0 for none. Class `num_classes` is the null label of classifier-free guidance.
      vector_features: length of the condition vector, 0 for none.
      augmentation_features: number of augmentation labels (EDM), 0 for none.
      dropout: rate, where a `key` is given.
      out_features: length of the output; None for that of the input.
      dtype: compute type, such as `"bfloat16"`; None for float32, or float64 where the input is. Parameters, norm
        statistics and the last layer are float32 or wider in any case.
    """

    width: int = 128
    num_blocks: int = 3
    embedding: Sinusoidal | Fourier = Sinusoidal()
    num_classes: int = 0
    vector_features: int = 0
    augmentation_features: int = 0
    dropout: float = 0.0
    out_features: int | None = None
    dtype: str | None = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch d"], time: Float[Array, " batch"], cond: Cond = None, key: Any = None
    ) -> Float[Array, "batch out"]:
        """Evaluates the network on `x` `[batch, d]`; arguments, result and errors are those of `UNet`."""
        x = jnp.asarray(x)
        if x.ndim != 2:
            raise ValueError(f"x has shape {x.shape}; allowed is [batch, d]")
        time = check_input(x, time)
        keys = None if key is None else trees.example_keys(key, x.shape[0])
        wide = jnp.promote_types(x.dtype, jnp.float32)
        dtype = wide if self.dtype is None else jnp.dtype(self.dtype)
        given = (self.embedding, self.num_classes, self.vector_features, self.augmentation_features)
        e = Conditioning(self.width, self.width, *given, dtype, name="conditioning")(time, cond)

        h = nn.Dense(self.width, dtype=dtype, name="dense_in")(x)
        for i in range(self.num_blocks):
            r = nn.LayerNorm(dtype=dtype, use_fast_variance=False, name=f"block_{i}_norm")(h)
            r = nn.Dense(self.width, dtype=dtype, name=f"block_{i}_in")(r)
            r = r + nn.Dense(self.width, dtype=dtype, use_bias=False, name=f"block_{i}_embedding")(e)
            r = Dropout(self.dropout, name=f"block_{i}_dropout")(nn.silu(r), keys)
            h = h + nn.Dense(self.width, dtype=dtype, kernel_init=nn.initializers.zeros, name=f"block_{i}_out")(r)
        h = nn.LayerNorm(dtype=wide, use_fast_variance=False, name="norm_out")(h)
        features = x.shape[-1] if self.out_features is None else self.out_features
        return nn.Dense(features, dtype=wide, kernel_init=nn.initializers.zeros, name="dense_out")(h)
