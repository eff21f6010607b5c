"""The embedding of the time input and of the conditions: one vector per example."""

from collections.abc import Mapping
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from jaxdiff.networks.inputs import Specs
from jaxdiff.networks.layers.dense import Dense
from jaxdiff.networks.layers.embeddings import TimeEmbedding

Vectors = Literal["input", "output"]


class Conditioning(nn.Module):
    """Sum of a time embedding, of class embeddings and of projected vectors.

    The features of the time input pass through two dense layers (Ho et al. 2020). Before these layers, a projection of
    each vector is added. The projections have no bias, so that zeros mean nothing (Karras et al. 2022, appendix F.2).
    After these layers, an embedding of each class is added (Dhariwal & Nichol 2021). A table of n classes has n + 1
    rows. The last row belongs to the null class n, which means "no class" in classifier-free guidance (Ho & Salimans
    2022). Conditions of one channel add up.

    With two times per example, as flow maps have them (Boffi et al. 2024, arXiv 2406.07507), the features of the second
    time have a first dense layer of their own. Its result is added before the nonlinearity.

    The parameters of a condition have its name: a vector's kernel is `NAME`, a class's table is `NAME_table`.

    With `vectors="output"`, all vectors are concatenated instead, pass through two dense layers of their own, and are
    added after the layers of time, as the pooled text and the sizes of Stable Diffusion XL (Podell et al. 2023, arXiv
    2307.01952, section 2.2):

        e = W_2 silu(W_1 features(t)) + V_2 silu(V_1 [v_1, v_2, ...])

    Attributes:
      features: width requested from the embedding of the time input.
      width: length of the result.
      embedding: features of the time input.
      specs: the conditions of the network; only classes and vectors matter here.
      dtype: compute type; parameters are float32.
      vectors: where vectors are added: `"input"`: before the layers of time. `"output"`: after them.
    """

    features: int
    width: int
    embedding: TimeEmbedding
    specs: Specs
    dtype: DTypeLike
    vectors: Vectors = "input"

    @nn.compact
    def __call__(
        self, time: Float[Array, " batch"] | Float[Array, "batch 2"], given: Mapping[str, Array]
    ) -> Float[Array, "batch width"]:
        """Maps `time` `[batch]` or `[batch, 2]` and the result of `read_cond` to `[batch, width]`, with SiLU last."""
        first, second = (time, None) if time.ndim == 1 else (time[:, 0], time[:, 1])
        hidden = self.embedding(first, self.features).astype(self.dtype)
        told = [name for name, spec in self.specs if spec.channel == "vector"]
        if self.vectors == "input":
            for name in told:
                project = Dense(hidden.shape[-1], use_bias=False, dtype=self.dtype, name=name)
                hidden = hidden + project(given[name])
        hidden = Dense(self.width, dtype=self.dtype, name="time_in")(hidden)
        if second is not None:
            features = self.embedding(second, self.features).astype(self.dtype)
            hidden = hidden + Dense(self.width, use_bias=False, dtype=self.dtype, name="second_time_in")(features)
        hidden = Dense(self.width, dtype=self.dtype, name="time_out")(nn.silu(hidden))
        if self.vectors == "output" and told:
            vector = jnp.concatenate([given[name].astype(self.dtype) for name in told], axis=-1)
            vector = nn.silu(Dense(self.width, dtype=self.dtype, name="vector_in")(vector))
            hidden = hidden + Dense(self.width, dtype=self.dtype, name="vector_out")(vector)
        for name, spec in self.specs:
            if spec.channel == "class":
                init = nn.initializers.normal(1.0)
                rows = spec.classes + 1
                table = nn.Embed(rows, self.width, embedding_init=init, dtype=self.dtype, name=f"{name}_table")
                hidden = hidden + table(given[name])
        return nn.silu(hidden)
