"""Folders of tiny text encoders and tokenizers as transformers writes them, from stored fixtures."""

import json
from pathlib import Path

import numpy as np

from jaxdiff.interop.tensors import write_tensors

_STORED = np.load(Path(__file__).parent / "references" / "text_encoders.npz")


def stored(case):
    """The arrays of a case by name."""
    prefix = f"{case}/"
    return {key.removeprefix(prefix): _STORED[key] for key in _STORED.files if key.startswith(prefix)}


def inside(arrays, prefix):
    """The arrays whose names begin with a prefix, without the prefix."""
    return {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}


def weights(case):
    """The arrays of an encoder by the names of its file, in float32."""
    return {name: value.astype(np.float32) for name, value in inside(stored(case), "weights/").items()}


def config(case):
    """The `config.json` of an encoder."""
    return json.loads(str(stored(case)["config"]))


def write_encoder(folder, case, tensors=None, **changes):
    """Writes the folder of an encoder, perhaps with other arrays and settings."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config(case) | changes))
    write_tensors(folder / "model.safetensors", weights(case) if tensors is None else tensors)
    return folder


def write_tokenizer_files(folder, case):
    """Writes the files of a tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in inside(stored(case), "files/").items():
        (folder / name).write_text(str(text), encoding="utf-8")
    return folder
