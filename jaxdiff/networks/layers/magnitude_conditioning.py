"""The embedding of the time input and of the conditions, of magnitude 1."""

import math
from collections.abc import Mapping

import flax.linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from jaxdiff.networks.inputs import Specs
from jaxdiff.networks.layers.embeddings import TimeEmbedding
from jaxdiff.networks.layers.magnitudes import MPTable, MPWeights, mp_silu, mp_sum


class MPConditioning(nn.Module):
    """Embedding of time, classes and vectors (Karras et al. 2024, arXiv 2312.02696, figure 21).

        e = mp_silu(mp_sum(W_time features(t), (W_1 v_1 + W_2 v_2 + ...) / sqrt(n), balance))

    v are the n conditions: one-hot classes and vectors. A table of k classes has k + 1 rows, the last for no class. Of
    two times per example, both parts have the same share. The parameters have the names of those of `Conditioning`.

    Attributes:
      features: width requested from the embedding of the time input.
      width: length of the result.
      embedding: features of the time input.
      specs: the conditions of the network; only classes and vectors matter here.
      balance: the share of the conditions in the sum.
      dtype: compute type; parameters are float32.
    """

    features: int
    width: int
    embedding: TimeEmbedding
    specs: Specs
    balance: float
    dtype: DTypeLike

    @nn.compact
    def __call__(
        self, time: Float[Array, " batch"] | Float[Array, "batch 2"], given: Mapping[str, Array]
    ) -> Float[Array, "batch width"]:
        """Maps `time` `[batch]` or `[batch, 2]` and the result of `read_cond` to `[batch, width]`."""

        def dense(x: Array, name: str) -> Array:
            y: Array = MPWeights(self.width, (), self.dtype, name=name)(x)
            return y

        first, second = (time, None) if time.ndim == 1 else (time[:, 0], time[:, 1])
        e = dense(self.embedding(first, self.features), "time_in")
        if second is not None:
            e = mp_sum(e, dense(self.embedding(second, self.features), "second_time_in"), 0.5)
        told = []
        for name, spec in self.specs:
            if spec.channel == "class":
                told.append(MPTable(spec.classes + 1, self.width, self.dtype, name=f"{name}_table")(given[name]))
            elif spec.channel == "vector":
                told.append(dense(given[name], name))
        if told:
            e = mp_sum(e, sum(told[1:], start=told[0]) / math.sqrt(len(told)), self.balance)
        return mp_silu(e)
