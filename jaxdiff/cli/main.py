"""The command `jaxdiff`, which runs one command by its name: `jaxdiff train digits`.

This file imports no command before it runs one, so that `--help` is quick, and works without the extra `train`.
"""

import importlib
import sys
from collections.abc import Sequence

from jaxdiff.checks import did_you_mean, message
from jaxdiff.cli.streams import forgiving_streams
from jaxdiff.errors import describe, fail
from jaxdiff.extras import needed
from jaxdiff.version import __version__

COMMANDS = {
    "train": "Trains a preset. The same command again resumes training.",
    "sample": "Draws samples from a run.",
    "restore": "Restores and edits pictures with a trained model.",
    "evaluate": "Measures the samples of a run of digits.",
    "ema": "Makes an average of the parameters from the snapshots of a run.",
    "convert": "Makes a run of a model of another library.",
    "compile-pod": "Compiles a preset for a TPU pod, without a TPU.",
}
_ALLOWED = ", ".join(COMMANDS)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command that the first argument names, with the other arguments.

    Args:
      argv: the arguments without the program's name; None for `sys.argv[1:]`.

    Raises:
      SystemExit: with status 2, after one line on standard error, if there is no such command, or if a package that
        the command needs is not installed; and with the statuses of the command.
    """
    with forgiving_streams():
        _run(list(sys.argv[1:] if argv is None else argv))


def _run(words: list[str]) -> None:
    given = words[0] if words else ""
    if given in ("-h", "--help"):
        print("usage: jaxdiff COMMAND [...]", "", "COMMAND is", sep="\n")
        print(*(f"    {name:<12} {sentence}" for name, sentence in COMMANDS.items()), sep="\n")
        print("", "`jaxdiff COMMAND --help` explains a command, and `jaxdiff --version` prints the version.", sep="\n")
        return
    if given == "--version":
        print(f"jaxdiff {__version__}")
        return
    if not given or given.startswith("-"):
        before = f" before {given!r}" if given else ""
        fail(f"missing COMMAND{before}; allowed are {_ALLOWED}")
    name = given.replace("_", "-")
    if name not in COMMANDS:
        fail(message("command", given, _ALLOWED) + did_you_mean(given, COMMANDS))
    try:
        with needed(f"jaxdiff {name}"):
            command = importlib.import_module(f"jaxdiff.cli.{name.replace('-', '_')}")
    except ImportError as error:
        fail(describe(error))
    command.main(words[1:])
