"""A frozen text encoder: a network with its weights, and its tokenizer."""

import dataclasses
from collections.abc import Iterable
from typing import Any, Self

import numpy as np
from jaxtyping import Array, Bool, Float, Int, Int32, PyTree

from jaxdiff import trees
from jaxdiff.conditions.tokenizer import Tokenizer
from jaxdiff.networks.module import Network
from jaxdiff.networks.text.tokens import Tokens


@trees.register
@dataclasses.dataclass(frozen=True)
class TextEncoder:
    """A text encoder whose weights are leaves. `interop.text_encoder` reads it from a folder of transformers.

        entries = encoder.read(["a cat", "a dog"], 77)
        vectors = jax.jit(encoder.pooled)(entries[:, 0], entries[:, 1] == 1)

    Attributes:
      variables: the variables of the network.
      network: a network that gives tokens, such as `networks.CLIPText`.
      tokenizer: the function from texts to ids.
    """

    variables: PyTree
    network: Network = dataclasses.field(metadata={"static": True})
    tokenizer: Tokenizer = dataclasses.field(metadata={"static": True})

    def read(self, texts: Iterable[str], length: int) -> Int32[np.ndarray, "batch 2 {length}"]:
        """The ids of texts and which of them are text, on the host; see `Tokenizer`."""
        return np.stack([self.tokenizer(text, length) for text in texts])

    def encode(self, ids: Int[Array, "batch n"], mask: Bool[Array, "batch n"]) -> Tokens:
        """One vector per token, `{"values": [batch, n, width], "mask": mask}`."""
        tokens: Tokens = self.network.apply(self.variables, ids, mask)
        return tokens

    def pooled(self, ids: Int[Array, "batch n"], mask: Bool[Array, "batch n"]) -> Float[Array, "batch features"]:
        """One vector per text."""
        vectors: Array = self.network.apply(self.variables, ids, mask, method="pooled")
        return vectors

    def changed(self, **settings: Any) -> Self:
        """The encoder with other settings of its network.

        Raises:
          ValueError: the network has no such setting.
        """
        return dataclasses.replace(self, network=self.network.changed(**settings))
