"""The tokenizer of a published text encoder: from a text to ids, on the host."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Int32

from jaxdiff.checks import integer
from jaxdiff.extras import needed


@dataclasses.dataclass(frozen=True)
class Tokenizer:
    """A function from texts to ids. It holds its file, so that the processes that read data have a copy.

    Attributes:
      library: the package that reads the file: `"tokenizers"` or `"sentencepiece"`.
      contents: the bytes of the file: JSON of `tokenizers`, or a model of `sentencepiece`.
      padding: the id that fills the places after a text.
    """

    library: Literal["tokenizers", "sentencepiece"]
    contents: bytes = dataclasses.field(repr=False)
    padding: int

    def __call__(self, text: str, length: int) -> Int32[np.ndarray, "2 {length}"]:
        """The ids of a text with its begin and its end, and which of the ids are the text.

        A longer text loses its last ids before the end.

        Args:
          text: the text.
          length: the number of ids.

        Returns:
          `[2, length]`: the ids, filled with `padding`, and a mask of ones and zeros.

        Raises:
          ValueError: the length is below 2.
        """
        ids = self.opened(length).encode(str(text))
        entry = np.full((2, length), self.padding, np.int32)
        entry[0, : len(ids)] = ids
        entry[1] = np.arange(length) < len(ids)
        return entry

    def text(self, entry: Int32[np.ndarray, "2 length"]) -> str:
        """The text of the result of a call. Its letter case and spaces may differ from those of the text."""
        return self.opened(entry.shape[1]).decode([int(one) for one, shown in zip(*entry, strict=True) if shown])

    def opened(self, length: int = 2) -> "Opened":
        """The functions of the library on the file, for texts of at most `length` ids."""
        return _opened(self.library, self.contents, length)


class Opened(NamedTuple):
    """The functions of a library on a file.

    Attributes:
      encode: a text as ids, with its begin and its end.
      decode: ids as a text, without begin and end.
      token: the name of an id; None for an id that has none.
      size: the number of ids.
      end: the id that ends a text; -1 if the library does not know it.
    """

    encode: Callable[[str], list[int]]
    decode: Callable[[list[int]], str]
    token: Callable[[int], str | None]
    size: int
    end: int = -1


@functools.lru_cache(maxsize=16)
def _opened(library: str, contents: bytes, length: int) -> Opened:
    """The functions of a library. The length is set once, since threads share them."""
    integer("length", length, least=2)
    with needed("the reading of texts for a published encoder"):
        if library == "tokenizers":
            from tokenizers import Tokenizer as Model

            words = Model.from_str(contents.decode())
            words.no_padding()
            words.enable_truncation(length)
            # Of byte-pair encodings the library leaves the mark of the end of a word, `</w>`, in the text.
            suffix = getattr(words.model, "end_of_word_suffix", None) or " "
            return Opened(
                lambda text: list(words.encode(text).ids),
                lambda ids: " ".join(words.decode(ids).replace(suffix, " ").split()),
                words.id_to_token,
                words.get_vocab_size(),
            )
        from sentencepiece import SentencePieceProcessor

    pieces = SentencePieceProcessor(model_proto=contents)
    end = pieces.eos_id()
    return Opened(
        lambda text: [*pieces.encode(text)[: length - 1], end],
        lambda ids: pieces.decode([one for one in ids if one != end]),
        pieces.id_to_piece,
        pieces.get_piece_size(),
        end,
    )
