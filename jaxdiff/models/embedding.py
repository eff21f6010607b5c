"""Embeddings: pictures and texts as vectors in one space."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PyTree

from jaxdiff import trees
from jaxdiff.checks import integer, require
from jaxdiff.components import Table, at
from jaxdiff.conditions import Text
from jaxdiff.data.fields import Field, check_known
from jaxdiff.data.pixels import to_floats
from jaxdiff.data.selection import Entry
from jaxdiff.models.model import Bound, Model
from jaxdiff.networks import Encoder
from jaxdiff.networks.module import Network
from jaxdiff.objectives import Contrastive


@dataclasses.dataclass(frozen=True)
class Embedding(Model):
    """A pair of encoders, of pictures and of texts, whose vectors are close where picture and text belong together.

    CLIP: Radford et al. 2021 (arXiv 2103.00020).

    Attributes:
      network: the encoder of the pictures, a network that gives a vector.
      field: the field of the pictures.
      text: the captions and their encoder.
      features: the length of the vectors.
    """

    network: Network = dataclasses.field(default_factory=Encoder)
    field: str = "image"
    text: Text = Text(dropout=0.0)
    features: int = 64

    def __post_init__(self) -> None:
        integer("features", self.features)
        require(not self.text.dropout, "text.dropout", self.text.dropout, "0, since an embedding drops no captions")

    def objective(self) -> Any:
        return Contrastive()

    def entries(self, fields: Mapping[str, Field]) -> dict[str, Entry]:
        check_known(fields, self.field, "model.field")
        with at("model.text"):
            self.text.check(fields)
        return {self.field: Entry(self.field, None, fields[self.field]), **self.text.entries(fields)}

    def bind(self, fields: Mapping[str, Field], frozen: Any) -> "BoundEmbedding":
        with at("model.network"):
            return BoundEmbedding(self, Table(fields), self.network.given({}).giving(self.features))


@dataclasses.dataclass(frozen=True)
class BoundEmbedding(Bound):
    """An embedding on data whose shapes are known. `Embedding.bind` makes it. Its network encodes the pictures."""

    settings: Embedding

    def init(self, key: Key[Array, ""]) -> dict[str, PyTree]:
        shape, text = self.fields[self.settings.field].shape, self.settings.text
        with at("model.network"):
            picture = self.network.init(key, jnp.zeros((1, *shape)), jnp.zeros(1))
        with at("model.text"):
            encoder = text.init(jax.random.fold_in(key, 1))
        width = text.encoder.width
        projection = jax.random.normal(jax.random.fold_in(key, 2), (width, self.settings.features)) / width**0.5
        return {"model": picture, "conditions": {"text": encoder, "projection": projection}}

    def prepare(
        self, params: PyTree, frozen: Any, batch: Mapping[str, Array], random: trees.BatchKey
    ) -> dict[str, PyTree]:
        return {"x": to_floats(batch[self.settings.field]), "ids": batch[self.settings.text.entry]}

    def of_pictures(self, params: PyTree, x: Array, keys: Any = None) -> Float[Array, "batch features"]:
        """The vectors of pictures in floats, of length 1."""
        return _normalised(self.network.apply(params["model"], x, jnp.zeros(len(x)), None, key=keys))

    def of_texts(self, params: PyTree, ids: Array) -> Float[Array, "batch features"]:
        """The vectors of texts as ids, of length 1."""
        text, own = self.settings.text, params["conditions"]
        pooled = dataclasses.replace(text, pooled=True)
        vectors = pooled.encode(own["text"], None, {text.entry: ids}, None, lambda x: x)
        return _normalised(vectors @ own["projection"])

    def loaded(self, params: PyTree, frozen: Any, extra: Any, sampling: Any) -> "EmbeddingModel":
        return EmbeddingModel(params, self)


@trees.register
@dataclasses.dataclass(frozen=True)
class EmbeddingModel:
    """A trained embedding. Its weights are leaves.

    Attributes:
      params: the parameters, or an average of them.
      bound: the model on its data: functions, fields and shapes.
    """

    params: PyTree
    bound: BoundEmbedding = dataclasses.field(metadata={"static": True})

    def embed(self, x: Any) -> Float[Array, "n features"]:
        """The vectors of pictures `[n, height, width, channels]`: bytes, or floats in [-1, 1]. It is differentiable."""
        return self.bound.of_pictures(self.params, to_floats(x))

    def embed_text(self, texts: Any) -> Float[Array, "n features"]:
        """The vectors of one text or of several."""
        text = self.bound.settings.text
        ids = text.ask(texts, self.bound.fields)[text.entry]
        return self.bound.of_texts(self.params, jnp.asarray(ids))

    def similarity(self, x: Any, texts: Any) -> Float[np.ndarray, "n m"]:
        """The cosines between pictures and texts."""
        return np.asarray(self.embed(x) @ self.embed_text(texts).T)


def _normalised(vectors: Float[Array, "batch features"]) -> Float[Array, "batch features"]:
    return vectors * jax.lax.rsqrt(jnp.sum(vectors**2, axis=-1, keepdims=True) + 1e-12)
