"""Text, through a frozen text encoder that was trained before."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Literal, Self

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key, PyTree

from jaxdiff.checks import fraction, integer, message, require
from jaxdiff.components import Part
from jaxdiff.conditions.condition import Condition, Encode
from jaxdiff.conditions.text_encoder import TextEncoder
from jaxdiff.conditions.tokenizer import Tokenizer
from jaxdiff.data.fields import Field
from jaxdiff.data.selection import Entry


@dataclasses.dataclass(frozen=True)
class PretrainedText(Condition):
    """Captions, through a frozen text encoder, as in latent diffusion (Rombach et al. 2022, arXiv 2112.10752).

    The tokenizer of the encoder reads captions in the workers of the data. The null caption is "".

    Attributes:
      encoder: the folder of the text encoder.
      field: the field of the captions.
      dropout: the probability that an example loses its caption in training.
      length: the number of tokens, with begin, end and padding. Longer captions are cut.
      pooled: whether the network is told one vector per caption, and not the tokens.
      masked: whether padding is hidden from the encoder and from the network. Imagen hides it. Stable Diffusion 1 to 3
        were trained with visible padding.
      before_last: whether the tokens are those before the last block of the encoder, as in Stable Diffusion XL and 3.
        The encoder has to be a `CLIPText`.
      tokenizer: the tokenizer of the encoder; no setting, since `opened` sets it.
    """

    encoder: Part
    field: str = "caption"
    dropout: float = 0.1
    length: int = 77
    pooled: bool = False
    masked: bool = True
    before_last: bool = False
    tokenizer: Tokenizer | None = dataclasses.field(default=None, kw_only=True, metadata={"setting": False})

    @property
    def channel(self) -> Literal["tokens", "vector"]:  # type: ignore[override]
        """`vector` if the tokens are pooled, else `tokens`."""
        return "vector" if self.pooled else "tokens"

    def __post_init__(self) -> None:
        fraction("dropout", self.dropout)
        integer("length", self.length, least=3)

    @property
    def entry(self) -> str:
        # The tokens and the vector of one encoder are read once.
        return f"{self.field}.{self.encoder}.{self.length}"

    @property
    def reads(self) -> Tokenizer:
        """The tokenizer.

        Raises:
          ValueError: the condition is not `opened`.
        """
        if self.tokenizer is None:
            raise ValueError(message("tokenizer", None, "conditions that know their encoder: opened(load(open))"))
        return self.tokenizer

    def load(self, open: Callable[[str], Any]) -> Any:
        found = open(self.encoder)
        allowed = f"folders of a text encoder; this one is a {type(found).__name__}"
        require(isinstance(found, TextEncoder), "encoder", self.encoder, allowed)
        longest = getattr(found.network, "length", None)
        if longest is not None:
            integer("length", self.length, least=3, most=longest)
        return found.changed(before_last=True) if self.before_last else found

    def opened(self, frozen: Any) -> Self:
        return dataclasses.replace(self, tokenizer=frozen.tokenizer)

    def entries(self, fields: Mapping[str, Field]) -> dict[str, Entry]:
        spec = Field("values", (2, self.length), "int32")
        return {self.entry: Entry(self.field, partial(self.reads, length=self.length), spec)}

    def check(self, fields: Mapping[str, Field]) -> None:
        super().check(fields)
        kind = fields[self.field].kind
        require(kind == "text", "field", self.field, f"fields of text, and not of kind {kind!r}")

    def null(self, fields: Mapping[str, Field]) -> np.ndarray:
        return self.reads("", self.length)

    def encode(
        self, params: PyTree, frozen: Any, batch: Mapping[str, Array], keys: Key[Array, " batch"] | None, codec: Encode
    ) -> PyTree:
        ids, mask = batch[self.entry][:, 0], batch[self.entry][:, 1] == 1
        if not self.masked:
            mask = jnp.ones_like(mask)
        return frozen.pooled(ids, mask) if self.pooled else frozen.encode(ids, mask)

    def ask(self, given: Any, fields: Mapping[str, Field]) -> dict[str, np.ndarray]:
        texts = [given] if isinstance(given, str) else list(given) if isinstance(given, Iterable) else []
        require(texts and all(isinstance(text, str) for text in texts), self.field, given, "text, one or [batch]")
        return {self.entry: np.stack([self.reads(text, self.length) for text in texts])}

    def captions(self, entries: Mapping[str, np.ndarray], fields: Mapping[str, Field]) -> list[str]:
        return [self.reads.text(np.asarray(entry)) for entry in entries[self.entry]]
