"""Pictures as planes beside the model's own: for super-resolution, restoration and colourisation."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import jax
import numpy as np
from jaxtyping import Array, Key, PyTree

from jaxdiff.checks import fraction, integer, require
from jaxdiff.conditions.condition import Condition, Encode, as_array
from jaxdiff.data.fields import Field
from jaxdiff.data.pixels import reduced, to_floats


@dataclasses.dataclass(frozen=True)
class Planes(Condition):
    """A picture that the network sees beside its input, such as one of lower resolution.

    With a factor, the picture of the data is reduced by the mean over squares, and a user gives the reduced picture.
    The picture is enlarged to the size of the data, and passes through the codec of the model, so that it fits latents
    too.

    Attributes:
      field: the field of the pictures: the pictures themselves, or degraded ones that an augmentation has added.
      dropout: the probability that an example loses its picture in training. Grey (zeros) means no picture.
      factor: the factor by which both sides of the pictures of the data are reduced; 1 to leave them as they are.
      enlarge: the factor by which both sides are enlarged afterwards; None for `factor`.
    """

    channel: ClassVar[Literal["planes"]] = "planes"
    field: str = "image"
    dropout: float = 0.0
    factor: int = 1
    enlarge: int | None = None

    def __post_init__(self) -> None:
        fraction("dropout", self.dropout)
        integer("factor", self.factor)
        if self.enlarge is not None:
            integer("enlarge", self.enlarge)

    @property
    def entry(self) -> str:
        # A dropped picture is grey for the network only, and not for the loss.
        return self.field

    def check(self, fields: Mapping[str, Field]) -> None:
        super().check(fields)
        field = fields[self.field]
        require(field.kind == "picture", "field", self.field, f"fields of pictures, and not of kind {field.kind!r}")
        divides = all(side % self.factor == 0 for side in field.shape[:2])
        require(divides, "factor", self.factor, f"divisors of the sides of {self.field}, {field.shape[:2]}")

    def null(self, fields: Mapping[str, Field]) -> np.ndarray:
        field = fields[self.field]
        # Bytes have no exact grey: 127.5 would be 0. The nearest byte is off by 0.004.
        return np.full(field.shape, 128 if field.dtype == "uint8" else 0, field.dtype)

    def encode(
        self, params: PyTree, frozen: Any, batch: Mapping[str, Array], keys: Key[Array, " batch"] | None, codec: Encode
    ) -> PyTree:
        small = reduced(to_floats(batch[self.field]), self.factor)
        n, height, width, channels = small.shape
        by = self.factor if self.enlarge is None else self.enlarge
        return codec(jax.image.resize(small, (n, by * height, by * width, channels), "cubic") if by > 1 else small)

    def ask(self, given: Any, fields: Mapping[str, Field]) -> dict[str, np.ndarray]:
        height, width, channels = fields[self.field].shape
        wanted = (height // self.factor, width // self.factor, channels)
        pictures = as_array(self.field, given, f"pictures {wanted}, one or [batch]")
        require(pictures.dtype == np.uint8 or pictures.dtype.kind == "f", f"{self.field}.dtype", pictures.dtype,
                "uint8 and floating-point types")  # fmt: skip
        pictures = pictures[None] if pictures.shape == wanted else pictures
        allowed = f"{wanted} and [batch, *{wanted}]"
        require(pictures.ndim == 4 and pictures.shape[1:] == wanted, f"{self.field}.shape", pictures.shape, allowed)
        require(pictures.dtype == np.uint8 or np.isfinite(pictures).all(), self.field, np.nan, "finite numbers")
        # The mean over squares of a picture whose pixels are repeated is the picture again.
        return {self.field: to_floats(pictures).repeat(self.factor, axis=1).repeat(self.factor, axis=2)}
