"""Vectors of numbers."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key, PyTree

from jaxdiff.checks import fraction, integer, require
from jaxdiff.conditions.condition import Condition, Encode, as_array
from jaxdiff.data.fields import Field
from jaxdiff.networks.layers.embeddings import TimeEmbedding


@dataclasses.dataclass(frozen=True)
class Vector(Condition):
    """Numbers that belong to an example: a measurement, an embedding, the features of an augmentation, a mask of rows.

    The numbers of a mask are 1 for true and 0 for false.

    Attributes:
      field: the field of the numbers, `[n]` or a single number per example.
      dropout: the probability that an example loses its numbers in training. Zeros mean no numbers.
      scale: a factor of all numbers, which should bring them near 1.
      embedding: features of each number, such as the sinusoids of the sizes that Stable Diffusion XL is told (Podell et
        al. 2023, arXiv 2307.01952, section 2.2); None for the numbers themselves.
      features: the number of features of each number, with an embedding.
      usual: the numbers of samples for which none are asked, such as the sizes of a whole picture. Guidance does not
        lead to them: the unconditional estimate is told the numbers that are asked for. None for zeros.
    """

    channel: ClassVar[Literal["vector"]] = "vector"
    field: str = "vector"
    dropout: float = 0.0
    scale: float = 1.0
    embedding: TimeEmbedding | None = None
    features: int = 256
    usual: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        fraction("dropout", self.dropout)
        integer("features", self.features)

    @property
    def guided(self) -> bool:
        return self.usual is None

    def check(self, fields: Mapping[str, Field]) -> None:
        super().check(fields)
        field = fields[self.field]
        good = field.kind in ("values", "mask") and len(field.shape) <= 1
        require(
            good,
            "field",
            self.field,
            f"fields of values [n] and of masks, and not of kind {field.kind!r} {field.shape}",
        )
        fits = self.usual is None or (len(self.usual),) == field.shape
        require(fits, "usual", self.usual, f"numbers of the shape {field.shape} of the field {self.field}")

    def null(self, fields: Mapping[str, Field]) -> np.ndarray:
        shape = fields[self.field].shape
        return np.zeros(shape, np.float32) if self.usual is None else np.asarray(self.usual, np.float32)

    def encode(
        self, params: PyTree, frozen: Any, batch: Mapping[str, Array], keys: Key[Array, " batch"] | None, codec: Encode
    ) -> Array:
        values = batch[self.field]
        values = self.scale * values.reshape(len(values), -1).astype(jnp.float32)
        if self.embedding is None:
            return values
        return self.embedding(values.reshape(-1), self.features).reshape(len(values), -1)

    def ask(self, given: Any, fields: Mapping[str, Field]) -> dict[str, np.ndarray]:
        shape = fields[self.field].shape
        values = as_array(self.field, _numbers(given), "finite numbers")
        good = values.dtype.kind in "biuf" and np.isfinite(values).all()
        require(good, self.field, given, "finite numbers")
        values = values[None] if values.shape == shape else values
        require(values.shape[1:] == shape, f"{self.field}.shape", values.shape, f"{shape} and [batch, *{shape}]")
        return {self.field: values.astype(np.float32)}


def _numbers(given: Any) -> Any:
    """Numbers, also as a text with commas between them, which a command line gives."""
    try:
        return [float(one) for one in given.split(",")] if isinstance(given, str) else given
    except ValueError:
        return given
