"""Captions through a frozen text encoder: a condition."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from additions import blobs, small
from jaxdiff.components import Part
from jaxdiff.conditions import Condition
from jaxdiff.data import Entry
from jaxdiff.data.fields import Field
from jaxdiff.models import Diffusion
from jaxdiff.networks import Sinusoidal
from jaxdiff.networks.module import Network
from jaxdiff.runs.config import Config


def read_words(text: str, length: int) -> np.ndarray:
    """Words as ids: 63 is the end, 0 is padding."""
    words = [1 + sum(map(ord, word)) % 62 for word in str(text).split()][: length - 1]
    return np.asarray([*words, 63] + [0] * (length - len(words) - 1), np.int32)


@dataclasses.dataclass(frozen=True)
class Words(Condition):
    """Captions as vectors of words from a frozen table.

    Attributes:
      table: a file of weights that holds the table.
      field: the field of the captions.
      dropout: the probability that an example loses its caption.
      length: the number of words.
    """

    channel: ClassVar[str] = "tokens"
    table: Part
    field: str = "caption"
    dropout: float = 0.1
    length: int = 6

    @property
    def entry(self) -> str:
        return f"{self.field}.words"

    def entries(self, fields: Mapping[str, Field]) -> dict[str, Entry]:
        read = partial(read_words, length=self.length)
        return {self.entry: Entry(self.field, read, Field("values", (self.length,), "int32"))}

    def load(self, open: Callable[[str], Any]) -> Any:
        return open(self.table)["table"]

    def null(self, fields: Mapping[str, Field]) -> np.ndarray:
        return read_words("", self.length)

    def encode(self, params: Any, frozen: Any, batch: Mapping[str, Any], keys: Any, codec: Any) -> Any:
        ids = batch[self.entry]
        return {"values": jnp.asarray(frozen)[ids], "mask": ids > 0}

    def ask(self, given: Any, fields: Mapping[str, Field]) -> dict[str, np.ndarray]:
        texts = [given] if isinstance(given, str) else list(given)
        return {self.entry: np.stack([read_words(text, self.length) for text in texts])}


class Attending(Network):
    """A dense network that attends to tokens.

    Attributes:
      width: the number of units.
    """

    takes: ClassVar[tuple[str, ...]] = ("tokens",)
    width: int = 32

    @nn.compact
    def __call__(self, x: Any, time: Any, cond: Any = None, key: Any = None) -> Any:
        h = nn.Dense(64)(x.reshape(len(x), -1)) + nn.Dense(64)(Sinusoidal()(time, self.width))
        for name, _ in self.specs:
            values, mask = cond[name]["values"], cond[name]["mask"]
            h = h[:, None]
            h = h + nn.MultiHeadDotProductAttention(2, name=name)(h, values, mask=mask[:, None, None])
            h = h[:, 0]
        h = nn.Dense(128)(nn.silu(nn.Dense(128)(nn.silu(h))))
        return nn.Dense(x[0].size, kernel_init=nn.initializers.zeros)(nn.silu(h)).reshape(x.shape)


PARTS = {"table.npz": {"table": np.random.default_rng(5).normal(size=(64, 16)).astype(np.float32)}}
CONFIG = Config(
    data=blobs.Blobs(),
    model=Diffusion(network=Attending(), conditions={"text": Words("table.npz")}),
    optimizer=small.OPTIMIZER,
    train=small.TRAIN,
    sample=small.SAMPLE,
)
ASKED = {"text": "bright left half"}
