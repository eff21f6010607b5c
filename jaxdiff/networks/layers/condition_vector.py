"""The vector of time and conditions that modulates the blocks of a transformer."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from jaxdiff.networks.inputs import Specs
from jaxdiff.networks.layers.dense import Dense
from jaxdiff.networks.layers.embeddings import TimeEmbedding
from jaxdiff.networks.layers.feed_forward import FeedForward

_INIT = nn.initializers.normal(0.02)


class ConditionVector(nn.Module):
    """The sum of an embedding of time and of an embedding of each class and vector.

        c = MLP(features(time)) + sum MLP(vector) + sum table[class]

    Each MLP has two dense layers with SiLU between them, as in DiT (Peebles & Xie 2023) and for the pooled text of SD3
    (Esser et al. 2024, arXiv 2403.03206). A table of n classes has n + 1 rows, the last for no class. With two times
    per example, the features of the second time have a first dense layer of their own, whose result is added before
    SiLU.

    The parameters of a condition have its name: a vector's layers are `NAME.in` and `NAME.out`, a class's table is
    `NAME_table`.

    Attributes:
      features: width requested from the embedding of the time input.
      width: length of the result.
      embedding: features of the time input.
      specs: the conditions of the network; only classes and vectors matter here.
      dtype: compute type; parameters are float32.
    """

    features: int
    width: int
    embedding: TimeEmbedding
    specs: Specs
    dtype: DTypeLike

    @nn.compact
    def __call__(
        self, time: Float[Array, " batch"] | Float[Array, "batch 2"], given: Mapping[str, Any]
    ) -> tuple[Float[Array, "batch width"], Float[Array, "batch width"]]:
        """Maps `time` and the result of `read_cond` to c, and to the part of c that comes from conditions."""
        first, second = (time, None) if time.ndim == 1 else (time[:, 0], time[:, 1])

        def dense(x: Array, name: str, use_bias: bool = True) -> Array:
            return Dense(self.width, use_bias=use_bias, dtype=self.dtype, kernel_init=_INIT, name=name)(x)

        hidden = dense(self.embedding(first, self.features).astype(self.dtype), "time_in")
        if second is not None:
            features = self.embedding(second, self.features).astype(self.dtype)
            hidden = hidden + dense(features, "second_time_in", use_bias=False)
        c = dense(nn.silu(hidden), "time_out")
        told = jnp.zeros_like(c)
        for name, spec in self.specs:
            if spec.channel == "vector":
                mlp = FeedForward(self.width, "silu", self.dtype, features=self.width, name=name)
                told = told + mlp(given[name].astype(self.dtype))
            elif spec.channel == "class":
                rows = spec.classes + 1
                table = nn.Embed(rows, self.width, embedding_init=_INIT, dtype=self.dtype, name=f"{name}_table")
                told = told + table(given[name])
        return c + told, told
