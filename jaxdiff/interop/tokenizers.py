"""The tokenizers in folders of transformers."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxdiff.checks import message, one_line, require
from jaxdiff.conditions.tokenizer import Tokenizer
from jaxdiff.extras import needed
from jaxdiff.interop.tensors import read_json

# The files that hold a tokenizer, in the order in which they are looked for.
_WHOLE, _CLIP, _PIECES, _BERT = "tokenizer.json", "vocab.json", "spiece.model", "vocab.txt"
_FILES = (_WHOLE, _CLIP, _PIECES, _BERT)
_CONFIGS = ("special_tokens_map.json", "tokenizer_config.json")
# The largest published file, of a vocabulary of 250,000 ids, has 17 megabytes.
_LARGEST = 100_000_000

_BEGIN, _END = "<|startoftext|>", "<|endoftext|>"
_CLIP_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"
_BERT_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder holds a file from which `read_tokenizer` makes a tokenizer."""
    return any((folder / name).is_file() for name in _FILES)


def read_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a folder.

    The folder holds `tokenizer.json`; or `vocab.json` and `merges.txt`, the byte-pair encoding of CLIP; or
    `spiece.model`, the sentencepiece model of T5; or `vocab.txt`, the words of BERT. A text is padded with the
    `pad_token` of `tokenizer_config.json` or `special_tokens_map.json`, or else with that of the vocabulary.

    Raises:
      ValueError: the folder has no such file, or a file cannot be read.
    """
    require(has_tokenizer(folder), "folder of a tokenizer", str(folder), f"folders that hold {', '.join(_FILES)}")
    path = next(folder / name for name in _FILES if (folder / name).is_file())
    config: dict[str, Any] = {}
    for name in _CONFIGS:
        if (folder / name).is_file():
            config |= read_json(folder / name)
    pad = _word(config.get("pad_token"))
    with needed(f"the reading of {path.name}"), _named(path):
        if path.name == _PIECES:
            return _sentencepiece(_bytes(path), pad)
        made = {_WHOLE: _whole, _CLIP: _clip, _BERT: _bert}[path.name](path, config)
        usual = [(made.padding or {}).get("pad_token"), "[PAD]", "<pad>", _END]
        known = [word for word in usual if word is not None and made.token_to_id(word) is not None]
        token = pad if pad is not None else known[0] if known else None
        if token is None or made.token_to_id(token) is None:
            raise ValueError(message("pad_token", token, "tokens of the vocabulary"))
        return Tokenizer("tokenizers", made.to_str().encode(), made.token_to_id(token))


def write_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Writes the files from which `read_tokenizer` makes an equal tokenizer."""
    (folder / (_WHOLE if tokenizer.library == "tokenizers" else _PIECES)).write_bytes(tokenizer.contents)
    config = {"pad_token": tokenizer.opened().token(tokenizer.padding)}
    (folder / _CONFIGS[-1]).write_text(json.dumps(config, ensure_ascii=False))


def _whole(path: Path, config: Mapping[str, Any]) -> Any:
    """A tokenizer that is one file."""
    from tokenizers import Tokenizer as Model

    return Model.from_str(_bytes(path).decode())


def _clip(path: Path, config: Mapping[str, Any]) -> Any:
    """The byte-pair encoding of CLIP (Radford et al. 2021, arXiv 2103.00020, section 2.4), in lower case."""
    from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers
    from tokenizers import Tokenizer as Model

    vocabulary = json.loads(_bytes(path))
    lines = _bytes(path.with_name("merges.txt")).decode().splitlines()
    pairs = [line.split(" ") for line in lines if line.strip() and not line.startswith("#version")]
    merges = [(first, second) for first, second in pairs]
    made = Model(models.BPE(vocabulary, merges, unk_token=_END, end_of_word_suffix="</w>"))
    made.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    words = pre_tokenizers.Split(Regex(_CLIP_WORDS), behavior="removed", invert=True)
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.pre_tokenizer = pre_tokenizers.Sequence([words, letters])
    made.decoder = decoders.ByteLevel()
    return _between(made, _BEGIN, _END, (_BEGIN, _END, _word(config.get("pad_token")) or _END))


def _bert(path: Path, config: Mapping[str, Any]) -> Any:
    """The words and their pieces of BERT (Devlin et al. 2018, arXiv 1810.04805)."""
    from tokenizers import Tokenizer as Model
    from tokenizers import decoders, models, normalizers, pre_tokenizers

    vocabulary = {word: i for i, word in enumerate(_bytes(path).decode().splitlines())}
    made = Model(models.WordPiece(vocabulary, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(
        handle_chinese_chars=config.get("tokenize_chinese_chars", True),
        strip_accents=config.get("strip_accents"),
        lowercase=config.get("do_lower_case", True),
    )
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    return _between(made, "[CLS]", "[SEP]", _BERT_TOKENS)


def _between(made: Any, begin: str, end: str, special: tuple[str, ...]) -> Any:
    """A tokenizer whose texts have a begin and an end, and which finds its special tokens in texts too."""
    from tokenizers import AddedToken, processors

    for word in (begin, end):
        if made.token_to_id(word) is None:
            raise ValueError(f"the vocabulary has no {word}")
    known = [word for word in dict.fromkeys(special) if made.token_to_id(word) is not None]
    made.add_special_tokens([AddedToken(word, special=True) for word in known])
    pair = [(word, made.token_to_id(word)) for word in (begin, end)]
    made.post_processor = processors.TemplateProcessing(single=f"{begin} $A {end}", special_tokens=pair)
    return made


def _sentencepiece(contents: bytes, pad: str | None) -> Tokenizer:
    """A model of sentencepiece (Kudo & Richardson 2018, arXiv 1808.06226)."""
    from sentencepiece import SentencePieceProcessor

    pieces = SentencePieceProcessor(model_proto=contents)
    padding = pieces.pad_id() if pad is None else pieces.piece_to_id(pad)
    if pieces.eos_id() < 0 or padding < 0 or (pad is not None and pieces.id_to_piece(padding) != pad):
        raise ValueError(message("pad_token", pad, "pieces of a model that has an end of text"))
    return Tokenizer("sentencepiece", contents, padding)


def _bytes(path: Path) -> bytes:
    """The bytes of a file that is there and is not too large."""
    size = path.stat().st_size
    if size > _LARGEST:
        raise ValueError(f"has {size} bytes; allowed are at most {_LARGEST}")
    return path.read_bytes()


def _word(token: Any) -> str | None:
    """A special token of a configuration: a word, or an object that has it as its content."""
    word = token.get("content") if isinstance(token, dict) else token
    return word if isinstance(word, str) else None


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turns whatever a library raises about a file into a ValueError with the path of the file."""
    try:
        yield
    except ModuleNotFoundError:
        raise
    except BaseException as error:
        # A program in Rust that stops at an error raises none of Python's exceptions.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise ValueError(f"{path}: cannot be read as a tokenizer: {one_line(error)}") from error
