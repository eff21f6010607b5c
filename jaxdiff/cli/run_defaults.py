"""The command lines of commands that sample a run: the settings of the run are the defaults of the flags."""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

from jaxdiff.cli import command_line
from jaxdiff.cli.import_modules import import_modules
from jaxdiff.models import Sampling
from jaxdiff.runs.config import Config
from jaxdiff.runs.directory import open_run
from jaxdiff.runs.settings import read_settings

C = TypeVar("C", bound=Sampling)


def parse(
    target: type[C],
    argv: Sequence[str] | None,
    *,
    prog: str,
    description: str,
    others: Callable[[Config | None], Mapping[str, Any]] = lambda config: {},
) -> C:
    """Reads a command line whose first word names a run.

    Args:
      target: the class of the arguments.
      argv: the arguments without the program's name; None for `sys.argv[1:]`.
      prog: the command, for the help.
      description: a sentence for the help.
      others: gives defaults in the place of the run's own, from the settings of the run; from None if no run is named.

    Raises:
      ValueError: there is no such run, or as of `command_line.parse`.
    """
    words = import_modules(sys.argv[1:] if argv is None else argv)
    config = read_settings(open_run(words[0])).config if words and not words[0].startswith("-") else None
    defaults = {**(command_line.values_of(config.sample) if config else {}), **others(config)}
    return command_line.parse(cast(Any, target), words, prog=prog, description=description, defaults=defaults)
