"""Presets: configurations by name, or from a file of one's own.

A preset is a Python file with a docstring and a value `CONFIG` of `jaxdiff.runs.config.Config`. Those in this folder have
names; the full-size recipes in `configs/` are files to copy and edit.
"""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from jaxdiff.checks import one_line, one_of
from jaxdiff.runs.config import Config

NAMES = ("digits", "mnist", "toy2d")


class Preset(NamedTuple):
    """A configuration and its description.

    Attributes:
      name: of the preset, or of its file without `.py`.
      description: the first line of the file's docstring.
      config: the configuration.
    """

    name: str
    description: str
    config: Config


def is_path(preset: str) -> bool:
    """Whether `preset` is the path of a file, and not a name."""
    return preset.endswith(".py") or "/" in preset


def open_preset(preset: str) -> Preset:
    """The preset of this name, or in the file of this path. Opening a file runs it.

    Raises:
      ValueError: no preset has this name; or the file is absent, fails, or holds no `CONFIG`.
    """
    if not is_path(preset):
        one_of("preset", preset, NAMES)
        return _preset(preset, importlib.import_module(f"{__name__}.{preset}"))
    path = Path(preset)
    if not path.is_file():
        raise ValueError(f"preset = {preset!r}; there is no such file")
    specification = importlib.util.spec_from_file_location(f"_preset_{path.stem}", path)
    if specification is None or specification.loader is None:
        raise ValueError(f"preset = {preset!r}; allowed are Python files, whose names end with .py")
    module = importlib.util.module_from_spec(specification)
    sys.modules[module.__name__] = module  # dataclasses of the file look themselves up
    try:
        specification.loader.exec_module(module)
    except Exception as error:
        raise ValueError(
            f"preset = {preset!r}; the file fails with {type(error).__name__}: {one_line(error)}"
        ) from error
    if not isinstance(getattr(module, "CONFIG", None), Config):
        raise ValueError(f"preset = {preset!r}; allowed are files with a value CONFIG of jaxdiff.runs.config.Config")
    return _preset(path.stem, module)


def _preset(name: str, module: ModuleType) -> Preset:
    description = " ".join((module.__doc__ or name).strip().split("\n\n")[0].split())
    return Preset(name, description, module.CONFIG)
