"""Checks of a prepared TFDS directory, made before TFDS opens the directory."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from jaxdiff.checks import message, require

_CLASS_NAMES = ("pythonClassName", "python_class_name", "type")
_MOST_BYTES = 2**26


def check_directory(directory: Path) -> None:
    """Checks that opening a directory runs no code but that of TFDS, and waits for nothing.

    TFDS imports the module of every class that `features.json` names, and TensorFlow for a type that NumPy does not
    know. Here only the classes of `tfds.features` and NumPy's types are allowed. A FIFO or a device in the directory
    would keep its reader waiting for ever.

    Raises:
      ValueError: the directory names another class or type, or holds what is neither a file nor a directory.
      OSError, RecursionError: the directory cannot be read.
    """
    for entry in sorted(directory.iterdir()):
        kinds = "regular files and directories"
        require(entry.is_file() or entry.is_dir(), "entry", entry.name, kinds)
        if entry.suffix == ".json":
            size = entry.stat().st_size
            require(size <= _MOST_BYTES, f"size of {entry.name}", size, f"at most {_MOST_BYTES} bytes")
    known = _known_classes()
    for key, word in _words(json.loads((directory / "features.json").read_text(encoding="utf-8"))):
        if key in _CLASS_NAMES and word not in known:
            raise ValueError(message("features.json: class", word, "the classes of tensorflow_datasets.core.features"))
        if key == "dtype" and not _is_type(word):
            raise ValueError(message("features.json: dtype", word, "'string' and NumPy's names of types"))


def check_splits(splits: Mapping[str, Any], directory: Path) -> None:
    """Checks that the files of all splits lie in the directory. TFDS takes their names from `dataset_info.json`.

    Raises:
      ValueError: a file lies elsewhere.
    """
    for name, split in splits.items():
        for file in map(Path, split.filepaths):
            inside = file.absolute().parent == directory.absolute()
            require(inside, f"file of the split {name!r}", str(file), "files of the directory itself")


def _known_classes() -> set[str]:
    """The names by which `features.json` may call the features of TFDS."""
    base: Any = tfds.features.FeatureConnector
    classes: list[Any] = [c for c in vars(tfds.features).values() if isinstance(c, type) and issubclass(c, base)]
    return {name for cls in classes for name in (f"{cls.__module__}.{cls.__name__}", *cls.ALIASES)}


def _is_type(word: str) -> bool:
    try:
        return word == "string" or bool(np.dtype(word))
    except (TypeError, ValueError, SyntaxError):
        return False


def _words(tree: Any) -> Iterator[tuple[str, str]]:
    """The keys and texts of JSON values, at any depth. TFDS also decodes texts that hold JSON, so these count too."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            if isinstance(value, str):
                yield key, value
            yield from _words(value)
    elif isinstance(tree, list):
        for item in tree:
            yield from _words(item)
    elif isinstance(tree, str) and tree.lstrip().startswith(("{", "[")):
        try:
            inner = json.loads(tree)
        except ValueError:  # TFDS cannot decode this text either
            return
        yield from _words(inner)
