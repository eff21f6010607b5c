"""Presets: configurations with a name, or in a file of one's own.

A preset is a Python file with a docstring and a value `CONFIG` of type `jaxdiff.runs.config.Config`. The presets in
this folder have names. The full-size recipes in `configs/` are files to copy and edit. A run directory is a preset,
too: its settings, beginning with its weights.
"""

import dataclasses
import importlib
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from jaxdiff.checks import did_you_mean, message, one_line
from jaxdiff.components import from_json, to_json
from jaxdiff.files import load_module
from jaxdiff.runs.config import Config
from jaxdiff.runs.directory import open_run
from jaxdiff.runs.settings import read_settings

NAMES = ("digits", "mnist", "toy2d", "vdm")
ALLOWED = f"{', '.join(NAMES)}, and the path of a preset file or of a run"


class Preset(NamedTuple):
    """A configuration and its description.

    Attributes:
      name: the preset's name, or the name of its file without `.py`, or that of its run with `-tuned`.
      description: the first paragraph of the file's docstring, on one line.
      config: the configuration.
    """

    name: str
    description: str
    config: Config


def open_preset(preset: str) -> Preset:
    """Opens the preset with this name, or in the file or the run with this path. Opening a file runs it.

    Args:
      preset: a name, or a path: text with a `/`, or that ends with `.py`.

    Raises:
      ValueError: no preset has this name; the file is absent, fails, or holds no `CONFIG`; or the directory is no run.
    """
    if not preset.endswith(".py") and "/" not in preset:
        if preset not in NAMES:
            raise ValueError(message("preset", preset, ALLOWED) + did_you_mean(preset, NAMES))
        return _preset(preset, importlib.import_module(f"{__name__}.{preset}"))
    path = Path(preset)
    if path.is_dir():
        return _of_run(path)
    if path.suffix != ".py":
        raise ValueError(f"preset {path}: the names of preset files end with .py")
    if not path.is_file():
        raise ValueError(f"preset {path}: there is no such file")
    try:
        module = load_module(path)
    except Exception as error:
        raise ValueError(f"preset {path}: fails with {type(error).__name__}: {one_line(error)}") from error
    if not isinstance(getattr(module, "CONFIG", None), Config):
        raise ValueError(f"preset {path}: holds no value CONFIG of type jaxdiff.runs.config.Config")
    return _preset(path.stem, module)


def _of_run(directory: Path) -> Preset:
    """The settings of a run, with its parts where they are, and with its averaged weights to begin with."""
    settings = read_settings(open_run(directory))
    tree = to_json(settings.config)
    for name, place in settings.places.items():
        *path, last = name.split(".")
        inside = tree
        for word in path:
            inside = inside[word]
        inside[last] = str(place)
    config = from_json(Config, tree)
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, start_from=str(directory)))
    return Preset(f"{directory.resolve().name}-tuned", f"The settings of {directory}, with its weights.", config)


def _preset(name: str, module: ModuleType) -> Preset:
    description = " ".join((module.__doc__ or name).strip().split("\n\n")[0].split())
    return Preset(name, description, module.CONFIG)
