"""Super-resolution: a condition that shows the network a picture of lower resolution."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import numpy as np

from additions import blobs, small
from jaxdiff.conditions import Condition
from jaxdiff.data import to_floats
from jaxdiff.data.fields import Field
from jaxdiff.models import Diffusion
from jaxdiff.runs.config import Config


@dataclasses.dataclass(frozen=True)
class LowResolution(Condition):
    """The picture itself, reduced and enlarged again.

    Attributes:
      field: the field of the pictures.
      dropout: the probability that an example loses its picture.
      factor: the factor by which both sides are reduced.
    """

    channel: ClassVar[str] = "planes"
    field: str = "image"
    dropout: float = 0.0
    factor: int = 4

    def null(self, fields: Mapping[str, Field]) -> np.ndarray:
        return np.full(fields[self.field].shape, 128, np.uint8)

    def encode(self, params: Any, frozen: Any, batch: Mapping[str, Any], keys: Any, codec: Any) -> Any:
        b, h, w, c = batch[self.field].shape
        low = jax.image.resize(to_floats(batch[self.field]), (b, h // self.factor, w // self.factor, c), "linear")
        return codec(jax.image.resize(low, (b, h, w, c), "cubic"))

    def ask(self, given: Any, fields: Mapping[str, Field]) -> dict[str, np.ndarray]:
        low = np.asarray(given, np.float32)
        low = low[None] if low.ndim == 3 else low
        return {self.field: low.repeat(self.factor, axis=1).repeat(self.factor, axis=2)}


CONFIG = Config(
    data=blobs.Blobs(),
    model=Diffusion(network=small.NETWORK, conditions={"low": LowResolution()}),
    optimizer=small.OPTIMIZER,
    train=small.TRAIN,
    sample=small.SAMPLE,
)
ASKED = {"low": np.zeros((2, 2, 1), np.float32)}
