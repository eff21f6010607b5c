"""Text, through a small transformer over bytes that is trained with the model."""

import dataclasses
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int32, Key, PyTree

from jaxdiff.checks import fraction, integer, require
from jaxdiff.components import at
from jaxdiff.conditions.condition import Condition, Encode
from jaxdiff.data.fields import Field
from jaxdiff.data.selection import Entry
from jaxdiff.networks import TextTransformer

# After the 256 values of a byte.
PADDING, BEGIN, END = 256, 257, 258


def read_bytes(text: Any, length: int) -> Int32[np.ndarray, " length"]:
    """Text as ids: BEGIN, the bytes of its UTF-8, END, and PADDING up to `length`. Longer text is cut."""
    encoded = list(str(text).encode("utf-8"))[: length - 2]
    ids = [BEGIN, *encoded, END]
    return np.asarray(ids + [PADDING] * (length - len(ids)), np.int32)


@dataclasses.dataclass(frozen=True)
class Text(Condition):
    """Captions. The encoder is trained jointly with the model, as in GLIDE (Nichol et al. 2022, arXiv 2112.10741).

    The begin and the end of a text are tokens, so that the empty text has visible tokens too.

    Attributes:
      field: the field of the captions.
      dropout: the probability that an example loses its caption in training. The null caption is "".
      encoder: the network over ids.
      pooled: whether the network is told one vector, the mean of the tokens, and not the tokens themselves.
    """

    field: str = "caption"
    dropout: float = 0.1
    encoder: TextTransformer = TextTransformer()
    pooled: bool = False

    @property
    def channel(self) -> Literal["tokens", "vector"]:  # type: ignore[override]
        """`vector` if the tokens are pooled, else `tokens`."""
        return "vector" if self.pooled else "tokens"

    def __post_init__(self) -> None:
        fraction("dropout", self.dropout)
        integer("encoder.length", self.encoder.length, least=3)

    @property
    def entry(self) -> str:
        return f"{self.field}.bytes{self.encoder.length}"

    def entries(self, fields: Mapping[str, Field]) -> dict[str, Entry]:
        length = self.encoder.length
        spec = Field("values", (length,), "int32")
        return {self.entry: Entry(self.field, partial(read_bytes, length=length), spec)}

    def check(self, fields: Mapping[str, Field]) -> None:
        super().check(fields)
        kind = fields[self.field].kind
        require(kind == "text", "field", self.field, f"fields of text, and not of kind {kind!r}")

    def init(self, key: Key[Array, ""]) -> PyTree:
        ids = jnp.asarray(self.null({}))[None]
        with at("encoder"):
            return self.encoder.init(key, ids, ids != PADDING)

    def null(self, fields: Mapping[str, Field]) -> np.ndarray:
        return read_bytes("", self.encoder.length)

    def encode(
        self, params: PyTree, frozen: Any, batch: Mapping[str, Array], keys: Key[Array, " batch"] | None, codec: Encode
    ) -> PyTree:
        ids = batch[self.entry]
        method = "pooled" if self.pooled else "__call__"
        return self.encoder.apply(params, ids, ids != PADDING, method=method)

    def ask(self, given: Any, fields: Mapping[str, Field]) -> dict[str, np.ndarray]:
        texts = [given] if isinstance(given, str) else list(given) if isinstance(given, Iterable) else []
        require(texts and all(isinstance(text, str) for text in texts), self.field, given, "text, one or [batch]")
        return {self.entry: np.stack([read_bytes(text, self.encoder.length) for text in texts])}

    def captions(self, entries: Mapping[str, np.ndarray], fields: Mapping[str, Field]) -> list[str]:
        return [bytes(int(i) for i in ids if i < PADDING).decode(errors="replace") for ids in entries[self.entry]]
