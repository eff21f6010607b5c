"""The flag `--import`, which every command takes: modules whose classes and functions are kinds, `module:Name`."""

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

from jaxdiff.checks import one_line


def import_modules(arguments: Sequence[str]) -> list[str]:
    """Imports the modules that `--import` names, in their order, and returns the other arguments.

    A module is a name, or the path of a .py file, which becomes the module `Path.stem`.

    Raises:
      ValueError: a module is absent or fails; or a file has the name of another module.
    """
    rest: list[str] = []
    words = iter(arguments)
    for word in words:
        flag, equals, value = word.partition("=")
        if word == "--":
            return [*rest, word, *words]
        if flag != "--import":
            rest.append(word)
            continue
        module = value if equals else next(words, "")
        if not module or module.startswith("-"):
            raise ValueError("--import needs a value: the name of a module, or the path of a .py file")
        try:
            _load(Path(module)) if module.endswith(".py") else importlib.import_module(module)
        except Exception as error:
            raise ValueError(f"--import {module}: {type(error).__name__}: {one_line(error)}") from error
    return rest


def _load(path: Path) -> None:
    """Imports a file as the module `path.stem`, once."""
    if path.stem in sys.modules:
        if Path(getattr(sys.modules[path.stem], "__file__", None) or "").resolve() != path.resolve():
            raise ValueError(f"another module has the name {path.stem!r} already")
        return
    specification = importlib.util.spec_from_file_location(path.stem, path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[path.stem] = module  # dataclasses of the file look up their module here
    try:
        specification.loader.exec_module(module)
    except BaseException:
        del sys.modules[path.stem]
        raise
