"""The parts of a run: other runs and files of weights that it needs, by path and checksum."""

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from jaxdiff import trees
from jaxdiff.checks import did_you_mean, one_line, require
from jaxdiff.components import Table
from jaxdiff.files import expand_user
from jaxdiff.interop.text_encoders import is_text_encoder, text_encoder
from jaxdiff.runs.config import Config
from jaxdiff.runs.settings import parts_of


class Parts:
    """The parts of a configuration, which are opened when a component asks for them.

    Args:
      config: the configuration.
      load: opens a run directory as a model.
      moved: where parts have moved, by the path of the setting or by its last name that fits one part only. All
        settings with the value of this setting move with it.
      places: where parts lay when the run was saved, by the path of the setting.

    Raises:
      ValueError: a moved part is no part of the configuration.
    """

    def __init__(
        self,
        config: Config,
        load: Callable[[Path], Any],
        moved: Mapping[str, str | os.PathLike[str]] | None = None,
        places: Mapping[str, Path] | None = None,
    ) -> None:
        named = parts_of(config)
        found = {path: expand_user(path, value).absolute() for path, value in named.items()}
        found |= {path: place for path, place in (places or {}).items() if path in named}
        for name, place in (moved or {}).items():
            fitting = [path for path in named if path == name or path.endswith(f".{name}")]
            allowed = f"the parts of the run: {', '.join(named) or 'none'}{did_you_mean(name, named)}"
            require(len(fitting) == 1, "part", name, allowed)
            same = [path for path, value in named.items() if value == named[fitting[0]]]
            found |= dict.fromkeys(same, expand_user(f"part {name}", place).absolute())
        self.places: dict[str, Path] = found
        self._named, self._load = named, load
        self._opened: dict[str, Any] = {}

    def open(self, value: str) -> Any:
        """Opens the part that a setting names, as `open_file` does.

        Raises:
          ValueError: there is no such part, or it cannot be read.
        """
        if value not in self._opened:
            setting = next(path for path, other in self._named.items() if other == value)
            place = self.places[setting]
            allowed = "files and run directories that exist; if it has moved, name its place with --part"
            require(place.exists(), setting, str(place), allowed)
            self._opened[value] = open_file(place, self._load)
        return self._opened[value]

    def checksums(self) -> Table:
        """The checksum of each part, by the path of its setting."""
        return Table({path: weights_checksum(self.open(value)) for path, value in self._named.items()})


def open_file(path: Path, load: Callable[[Path], Any]) -> Any:
    """A run directory as a model; a folder of a text encoder of transformers; an `.npz` file as a mapping of arrays."""
    if is_text_encoder(path):
        return text_encoder(path)
    if path.suffix == ".npz":
        require(path.is_file(), "file of arrays", str(path), "regular files")
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return dict(arrays)
        except Exception as error:  # of NumPy, of `zipfile` and of `zlib`: the file may hold anything
            raise ValueError(f"{path}: cannot be read as a file of arrays: {one_line(error)}") from error
    return load(path)


def weights_checksum(weights: PyTree) -> str:
    """A checksum of the names, types, shapes and numbers of the leaves of a pytree."""
    digest = hashlib.blake2b(digest_size=16)
    for path, leaf in jax.tree_util.tree_flatten_with_path(weights)[0]:
        array = np.ascontiguousarray(leaf)
        digest.update(f"{trees.name_of(path)} {array.dtype} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def check_parts(saved: Mapping[str, str], found: Mapping[str, str], places: Mapping[str, Path]) -> None:
    """Raises a ValueError if a part is not the part that the run was trained with."""
    for name, checksum in found.items():
        if name in saved and saved[name] != checksum:
            raise ValueError(
                f"{name} = {str(places[name])!r}: its weights are not those that the run was trained with "
                f"(checksum {checksum}, was {saved[name]}); if it has moved, name its place with --part"
            )
