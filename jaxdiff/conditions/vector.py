"""Vectors of numbers."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key, PyTree

from jaxdiff.checks import fraction, require
from jaxdiff.conditions.condition import Condition, Encode, as_array
from jaxdiff.data.fields import Field


@dataclasses.dataclass(frozen=True)
class Vector(Condition):
    """Numbers that belong to an example: a measurement, an embedding, the features of an augmentation.

    Attributes:
      field: the field of the numbers, `[n]` or a single number per example.
      dropout: the probability that an example loses its numbers in training. Zeros mean no numbers.
      scale: a factor of all numbers, which should bring them near 1.
    """

    channel: ClassVar[Literal["vector"]] = "vector"
    field: str = "vector"
    dropout: float = 0.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        fraction("dropout", self.dropout)

    def check(self, fields: Mapping[str, Field]) -> None:
        super().check(fields)
        field = fields[self.field]
        good = field.kind == "values" and len(field.shape) <= 1
        require(good, "field", self.field, f"fields of values [n], and not of kind {field.kind!r} {field.shape}")

    def null(self, fields: Mapping[str, Field]) -> np.ndarray:
        return np.zeros(fields[self.field].shape, np.float32)

    def encode(
        self, params: PyTree, frozen: Any, batch: Mapping[str, Array], keys: Key[Array, " batch"] | None, codec: Encode
    ) -> Array:
        values = batch[self.field]
        return self.scale * values.reshape(len(values), -1).astype(jnp.float32)

    def ask(self, given: Any, fields: Mapping[str, Field]) -> dict[str, np.ndarray]:
        shape = fields[self.field].shape
        values = as_array(self.field, given, "finite numbers")
        good = values.dtype.kind in "iuf" and np.isfinite(values).all()
        require(good, self.field, given, "finite numbers")
        values = values[None] if values.shape == shape else values
        require(values.shape[1:] == shape, f"{self.field}.shape", values.shape, f"{shape} and [batch, *{shape}]")
        return {self.field: values.astype(np.float32)}
