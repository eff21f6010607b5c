"""Folders of other libraries: `config.json`, the settings of a model, beside files of its weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxdiff.checks import integer, one_of, positive, require
from jaxdiff.interop.tensors import read_json, read_tensors

# What a folder may have in the place of files without programs; the reading of a pickle says what is wrong with it.
_KINDS = ("safetensors", "safetensors.index.json", "bin", "bin.index.json")


class Settings:
    """The settings of a `config.json`, each read with a check. Errors name the setting.

    Args:
      values: the settings by name.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def integer(self, name: str, default: int | None = None, least: int = 1) -> int:
        """An integer of at least `least`. Without a default, the setting must be there."""
        value = self._values.get(name, default)
        integer(f"{name} in config.json", value, least)
        assert value is not None
        return int(value)

    def positive(self, name: str, default: float) -> float:
        """A number above 0."""
        value = self._values.get(name, default)
        positive(f"{name} in config.json", value)
        return float(value)

    def one_of(self, name: str, default: Any, allowed: tuple[Any, ...]) -> Any:
        """One of the values that are allowed."""
        value = self._values.get(name, default)
        one_of(f"{name} in config.json", value, allowed)
        return value


def read_folder(folder: Path, stem: str = "model") -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The settings and the arrays of a folder.

    Args:
      folder: the folder.
      stem: the beginning of the names of the files of weights: `model` (transformers) or `diffusion_pytorch_model`
        (diffusers).

    Raises:
      ValueError: a file is missing or cannot be read, or the weights are pickles only.
    """
    require(folder.is_dir(), "folder", str(folder), "folders that exist, with config.json and files of weights")
    config = read_json(folder / "config.json")
    names = [f"{stem}.{kind}" for kind in _KINDS] + [f"pytorch_{stem}.bin", f"pytorch_{stem}.bin.index.json"]
    found = next((name for name in names if (folder / name).is_file()), names[0])
    return config, read_tensors(folder / found.removesuffix(".index.json") if ".bin" in found else folder / found)
