"""A residual network for vectors, such as toy problems in a few dimensions."""

from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdiff import trees
from jaxdiff.checks import require
from jaxdiff.networks.inputs import Cond, check_input, check_settings, compute_types, read_cond
from jaxdiff.networks.layers.conditioning import Conditioning
from jaxdiff.networks.layers.dense import Dense
from jaxdiff.networks.layers.dropout import Dropout
from jaxdiff.networks.layers.embeddings import Sinusoidal, TimeEmbedding
from jaxdiff.networks.module import Network


class MLP(Network):
    """Residual multi-layer perceptron with layer normalisation, for vectors.

        h = W_in x
        h = h + W_2 dropout(silu(W_1 norm(h) + W_e e))     num_blocks times
        y = W_out norm(h)

    `W_2` and `W_out` start at zero; e is the embedding of time and conditions. With `out_features`, the network is a
    classifier or an embedding of vectors.

    Attributes:
      width: number of units of a hidden layer.
      num_blocks: number of residual blocks.
      embedding: features of the time input.
      dropout: dropout rate, used when a `key` is given.
      out_features: length of the output; None for the length of the input.
      dtype: compute type, such as `"bfloat16"`; None for float32, or float64 if the input is float64. Parameters, norm
        statistics and the last layer are always float32 or wider.
    """

    takes: ClassVar[tuple[str, ...]] = ("class", "vector")
    output_length: ClassVar[str] = "out_features"

    width: int = 128
    num_blocks: int = 3
    embedding: TimeEmbedding = Sinusoidal()
    dropout: float = 0.0
    out_features: int | None = None
    dtype: str | None = None

    def __post_init__(self) -> None:
        check_settings(self.dtype, num_blocks=self.num_blocks)
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch d"],
        time: Float[Array, " batch"] | Float[Array, "batch 2"],
        cond: Cond = None,
        key: Any = None,
    ) -> Float[Array, "batch out"]:
        """Evaluates the network on `x` `[batch, d]`.

        The other arguments, the type of the result and the errors are those of `UNet`.

        Returns:
          `[batch, out_features]`.
        """
        x = jnp.asarray(x)
        require(x.ndim == 2, "x.shape", x.shape, "[batch, d]")
        time = check_input(x, time)
        keys = None if key is None else trees.example_keys(key, x.shape[0])
        wide, dtype = compute_types(x, self.dtype)
        given = read_cond(cond, self.specs, x.shape[0])
        e = Conditioning(self.width, self.width, self.embedding, self.specs, dtype, name="conditioning")(time, given)

        h = Dense(self.width, dtype=dtype, name="dense_in")(x)
        for i in range(self.num_blocks):
            r = nn.LayerNorm(dtype=dtype, use_fast_variance=False, name=f"block_{i}_norm")(h)
            r = Dense(self.width, dtype=dtype, name=f"block_{i}_in")(r)
            r = r + Dense(self.width, dtype=dtype, use_bias=False, name=f"block_{i}_embedding")(e)
            r = Dropout(self.dropout, name=f"block_{i}_dropout")(nn.silu(r), keys)
            h = h + Dense(self.width, dtype=dtype, kernel_init=nn.initializers.zeros, name=f"block_{i}_out")(r)
        h = nn.LayerNorm(dtype=wide, use_fast_variance=False, name="norm_out")(h)
        features = x.shape[-1] if self.out_features is None else self.out_features
        return Dense(features, dtype=wide, kernel_init=nn.initializers.zeros, name="dense_out")(h)
