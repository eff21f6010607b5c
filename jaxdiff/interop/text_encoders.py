"""Text encoders, from folders of transformers."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.checks import require
from jaxdiff.conditions.text_encoder import TextEncoder
from jaxdiff.interop.bert import bert
from jaxdiff.interop.clip import clip
from jaxdiff.interop.diffusers.folders import weights_of
from jaxdiff.interop.t5 import t5
from jaxdiff.interop.tensors import read_json
from jaxdiff.interop.tokenizers import has_tokenizer, read_tokenizer
from jaxdiff.networks.module import Network

# The reader of each `model_type`.
_READERS: dict[str, Callable[[Mapping[str, Any], Mapping[str, np.ndarray]], tuple[Network, Any]]] = {
    "clip": clip,
    "clip_text_model": clip,
    "t5": t5,
    "bert": bert,
}


def is_text_encoder(folder: Path) -> bool:
    """Whether a folder looks like one of transformers: its `config.json` names a type of model."""
    try:
        return "model_type" in read_json(folder / "config.json")
    except ValueError:
        return False


def text_encoder(folder: str | os.PathLike[str], tokenizer: str | os.PathLike[str] | None = None) -> TextEncoder:
    """The text encoder of a folder of transformers: CLIP, T5 v1.1 or BERT.

    Args:
      folder: a folder of `config.json` and `.safetensors` files.
      tokenizer: the folder of the tokenizer. None for `folder` itself if it has one, or else for the folder beside it
        that pipelines of diffusers have: `tokenizer_2` for `text_encoder_2`.

    Raises:
      ValueError: a file is missing or cannot be read, a setting is not allowed, an array is missing, has another shape
        or has no place in the network, or the tokenizer has ids that the network does not know.
    """
    path = Path(folder)
    require(path.is_dir(), "folder", str(path), "folders of text encoders that exist")
    config = read_json(path / "config.json")
    kind = config.get("model_type")
    known = isinstance(kind, str) and kind in _READERS
    require(known, f"{path / 'config.json'}: model_type", kind, ", ".join(_READERS))
    if tokenizer is None:
        beside = path.with_name(path.name.replace("text_encoder", "tokenizer"))
        tokenizer = path if has_tokenizer(path) else beside
    return encoder_of(config, weights_of(path), Path(tokenizer))


def encoder_of(config: Mapping[str, Any], tensors: Mapping[str, np.ndarray], tokenizer: Path) -> TextEncoder:
    """The text encoder of a configuration of transformers and its arrays.

    Args:
      config: the entries of its `config.json`, of a type that we read.
      tensors: its arrays.
      tokenizer: the folder of its tokenizer.

    Raises:
      ValueError: as of `text_encoder`.
    """
    network, variables = _READERS[str(config["model_type"])](config, tensors)
    words = read_tokenizer(tokenizer)
    size, most = words.opened().size, getattr(network, "vocabulary", None)
    allowed = f"at most {most}, those of the encoder"
    require(most is None or size <= most, f"{tokenizer}: number of ids", size, allowed)
    return TextEncoder(jax.tree.map(jnp.asarray, variables), network, words)
