"""Text, through several frozen text encoders."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, Self

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int32, Key, PyTree

from jaxdiff.checks import fraction, integer, require
from jaxdiff.conditions.condition import Condition, Encode
from jaxdiff.conditions.pretrained_text import PretrainedText
from jaxdiff.conditions.text_encoder import TextEncoder
from jaxdiff.conditions.tokenizer import Tokenizer
from jaxdiff.data.fields import Field
from jaxdiff.data.selection import Entry


@dataclasses.dataclass(frozen=True)
class JoinedText(Condition):
    """Captions, through several frozen text encoders, as in Stable Diffusion XL and 3.

    The tokens of the encoders `beside` are concatenated along their width, and those of the encoders `after` follow
    them. All are filled with zeros to one width:

        [ h_1 h_2 0 ]
        [    h_3    ]

    Sources: Podell et al. 2023 (SDXL, arXiv 2307.01952, section 2.1); Esser et al. 2024 (SD3, arXiv 2403.03206,
    appendix B.3). If encoders are `pooled`, the network is told their vectors instead, one after the other. Conditions
    of the same encoders read a caption once, pooled or not, and are asked for together.

    Attributes:
      beside: encoders of texts of one length.
      after: encoders whose tokens follow. The `dropout` of single encoders has no effect.
      blank: the number of tokens of zeros at the end, which stand for an encoder that is left out.
      width: the width of the tokens; None for that of the widest ones.
      dropout: the probability that an example loses its caption in training.
      zero_null: whether no caption is told as zeros, and not as the encoding of "".
    """

    beside: tuple[PretrainedText, ...]
    after: tuple[PretrainedText, ...] = ()
    blank: int = 0
    width: int | None = None
    dropout: float = 0.1
    zero_null: bool = False

    def __post_init__(self) -> None:
        require(self.beside, "beside", self.beside, "at least one encoder")
        fraction("dropout", self.dropout)
        integer("blank", self.blank, least=0)
        for one in self.encoders:
            require(one.field == self.field, "field", one.field, f"{self.field!r}, that of the first encoder")
        for one in self.beside:
            first = self.beside[0].length
            require(one.length == first, "length", one.length, f"{first}, that of the encoder beside which it stands")

    @property
    def encoders(self) -> tuple[PretrainedText, ...]:
        """All encoders."""
        return (*self.beside, *self.after)

    @property
    def channel(self) -> Literal["tokens", "vector"]:  # type: ignore[override]
        """`vector` if encoders are pooled, else `tokens`."""
        return "vector" if any(one.pooled for one in self.encoders) else "tokens"

    @property
    def field(self) -> str:  # type: ignore[override]
        """The field of the captions."""
        return self.beside[0].field

    @property
    def entry(self) -> str:
        return "+".join(one.entry for one in self.encoders)

    def load(self, open: Callable[[str], Any]) -> Any:
        found = [one.load(open) for one in self.encoders]
        if self.channel == "tokens":
            return tuple(found)
        # The others are needed for their tokenizers alone.
        return tuple(
            encoder if one.pooled else dataclasses.replace(encoder, variables={})
            for one, encoder in zip(self.encoders, found, strict=True)
        )

    def opened(self, frozen: Any) -> Self:
        made = tuple(one.opened(encoder) for one, encoder in zip(self.encoders, frozen, strict=True))
        count = len(self.beside)
        return dataclasses.replace(self, beside=made[:count], after=made[count:])

    def entries(self, fields: Mapping[str, Field]) -> dict[str, Entry]:
        readers = tuple((one.reads, one.length) for one in self.encoders)
        spec = Field("values", (2, sum(one.length for one in self.encoders)), "int32")
        return {self.entry: Entry(self.field, partial(_read, readers=readers), spec)}

    def check(self, fields: Mapping[str, Field]) -> None:
        self.beside[0].check(fields)

    def null(self, fields: Mapping[str, Field]) -> np.ndarray:
        entry = np.concatenate([one.null(fields) for one in self.encoders], axis=1)
        if self.zero_null:
            entry[1] = 0  # no token is text, not even a begin and an end
        return entry

    def encode(
        self, params: PyTree, frozen: Any, batch: Mapping[str, Array], keys: Key[Array, " batch"] | None, codec: Encode
    ) -> PyTree:
        entry = jnp.asarray(batch[self.entry])
        told = (entry[:, 1] == 1).any(axis=1)
        # Encoders need a visible token.
        entry = entry.at[:, 1].set(jnp.where(told[:, None], entry[:, 1], 1))

        def of(one: PretrainedText, encoder: TextEncoder, part: Array) -> PyTree:
            return one.encode({}, encoder, {one.entry: part}, None, codec)

        parts = list(zip(self.encoders, frozen, self._split(entry), strict=True))
        if self.channel == "vector":
            vectors = [of(*part) for part in parts if part[0].pooled]
            return jnp.where(told[:, None], jnp.concatenate(vectors, axis=-1), 0)
        tokens = [of(*part) for part in parts]
        count = len(self.beside)
        values = [jnp.concatenate([one["values"] for one in tokens[:count]], axis=-1)]
        masks = [jnp.stack([one["mask"] for one in tokens[:count]]).any(axis=0)]
        values += [one["values"] for one in tokens[count:]]
        masks += [one["mask"] for one in tokens[count:]]
        widest = max(value.shape[-1] for value in values)
        width = widest if self.width is None else self.width
        integer("width", width, least=widest)
        values.append(jnp.zeros((len(entry), self.blank, width)))
        masks.append(jnp.ones((len(entry), self.blank), bool))
        values = [jnp.pad(value, ((0, 0), (0, 0), (0, width - value.shape[-1]))) for value in values]
        joined = jnp.where(told[:, None, None], jnp.concatenate(values, axis=1), 0)
        return {"values": joined, "mask": jnp.concatenate(masks, axis=1)}

    def ask(self, given: Any, fields: Mapping[str, Field]) -> dict[str, np.ndarray]:
        asked = [one.ask(given, fields)[one.entry] for one in self.encoders]
        return {self.entry: np.concatenate(asked, axis=2)}

    def captions(self, entries: Mapping[str, np.ndarray], fields: Mapping[str, Field]) -> list[str]:
        first = self.beside[0]
        part = np.asarray(entries[self.entry])[..., : first.length]
        return first.captions({first.entry: part}, fields)

    def _split(self, entry: Int32[Array, "batch 2 all"]) -> list[Array]:
        """The entry of each encoder."""
        ends = np.cumsum([one.length for one in self.encoders])
        return jnp.split(entry, ends[:-1], axis=2)


def _read(text: str, readers: tuple[tuple[Tokenizer, int], ...]) -> Int32[np.ndarray, "2 all"]:
    """The entries of a text for each tokenizer and its length, one after the other."""
    return np.concatenate([tokenizer(text, length) for tokenizer, length in readers], axis=1)
