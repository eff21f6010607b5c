"""The flag `--import`, which every command takes: modules whose classes and functions are kinds, `module:Name`."""

import importlib
from collections.abc import Sequence

from jaxdiff.checks import one_line
from jaxdiff.files import load_module


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
            load_module(module) if module.endswith(".py") else importlib.import_module(module)
        except Exception as error:
            raise ValueError(f"--import {module}: {type(error).__name__}: {one_line(error)}") from error
    return rest
