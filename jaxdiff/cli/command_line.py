"""Command lines: arguments become typed values, and a mistake becomes one line on standard error.

The arguments of a command are a frozen dataclass, which may hold components, and a flag is a path into it (`flags`):

    @dataclasses.dataclass(frozen=True)
    class Arguments:
        run: Path = dataclasses.field(metadata={"positional": True})
        steps: int = 20

    def sample(arguments: Arguments) -> None: ...

    command_line.run(sample)

or, with presets,

    with reporting_errors():
        config, name = command_line.parse_preset(Config)

Exit status: 0 for success and `--help`; otherwise the statuses of `jaxdiff.distributed.reporting`.
"""

import contextlib
import dataclasses
import inspect
import os
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from jaxdiff.cli.flags import read_flags, split
from jaxdiff.cli.help_text import help_text, positional, summary
from jaxdiff.cli.import_modules import import_modules
from jaxdiff.components import settings_of
from jaxdiff.distributed.reporting import reporting_errors
from jaxdiff.errors import describe, fail

if TYPE_CHECKING:
    from jaxdiff.runs.config import Config

T = TypeVar("T")
C = TypeVar("C", bound="Config")


def parse(
    target: T | type[T],
    argv: Sequence[str] | None = None,
    *,
    prog: str | None = None,
    description: str | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> T:
    """Reads a command line into a frozen dataclass.

    Args:
      target: an instance, whose values are the defaults; or a class, of which a field without default is required.
        A field whose metadata say `positional=True` is a positional argument.
      argv: the arguments without the program's name; None for `sys.argv[1:]`.
      prog: the program's name in the help text; None for the name of the script.
      description: a sentence for the help text; None for the summary of the class.
      defaults: values that take the place of the defaults of `target`, by the name of the field.

    Raises:
      SystemExit: with status 2, after one line on standard error, if the arguments do not fit; with status 0 after
        `--help`.
    """
    cls: Any = target if isinstance(target, type) else type(target)
    if isinstance(target, type):
        values = {name: o.default for name, o in settings_of(cls).items() if o.default is not inspect.Parameter.empty}
    else:
        values = values_of(target)
    values |= defaults or {}
    try:
        words = split(import_modules(sys.argv[1:] if argv is None else argv))
        others = [given for given in words if given.flag not in ("-h", "--help")]
        if len(others) == len(words):
            return read_flags(cls, values, words)
        with contextlib.suppress(ValueError, TypeError):  # the help explains the kinds that the line chooses
            values = values_of(read_flags(cls, values, others))
        usage = [prog or os.path.basename(sys.argv[0]), *map(str.upper, positional(cls)), "[--path value ...]"]
        print(help_text(" ".join(usage), summary(cls) if description is None else description, cls, values))
    except (ValueError, TypeError) as error:
        fail(describe(error))
    raise SystemExit(0)


def parse_preset(target: type[C], argv: Sequence[str] | None = None, *, prog: str | None = None) -> tuple[C, str]:
    """Reads `PRESET [--flag value ...]`: a preset, whose values the flags replace.

    Args:
      target: a dataclass that extends `Config`. The preset gives the defaults of the fields of `Config`.
      argv: the arguments without the program's name; None for `sys.argv[1:]`.
      prog: the program's name in the help text; None for the name of the script.

    Returns:
      An instance of `target`, and the preset's name.

    Raises:
      ValueError: no preset has this name, the preset file cannot be used, or a module cannot be imported.
      SystemExit: with status 2, after one line on standard error, if the arguments do not fit; with status 0 after
        `--help`.
    """
    from jaxdiff import presets

    arguments = import_modules(sys.argv[1:] if argv is None else argv)
    prog = prog or os.path.basename(sys.argv[0])
    given = arguments[0] if arguments else ""
    if given in ("-h", "--help"):
        lines = [f"    {name:<10} {presets.open_preset(name).description}" for name in presets.NAMES]
        print(f"usage: {prog} PRESET [--path value ...]", "", "PRESET is the path of a file or a run, or", sep="\n")
        print(*lines, "", f"`{prog} PRESET --help` lists every flag.", sep="\n")
        raise SystemExit(0)
    if not given or given.startswith("-"):
        before = f" before {given!r}" if given else ""
        fail(f"missing PRESET{before}; allowed are {presets.ALLOWED}")
    preset = presets.open_preset(given)
    start = target(**values_of(preset.config))
    parsed = parse(start, arguments[1:], prog=f"{prog} {given}", description=preset.description)
    return parsed, preset.name


def narrowed(arguments: Any, target: type[T]) -> T:
    """The settings of a dataclass alone, without the fields that the arguments of a command add to it."""
    fields: Any = dataclasses.fields(target)  # type: ignore[arg-type]
    return target(**{field.name: getattr(arguments, field.name) for field in fields})


def run(main: Callable[..., T], argv: Sequence[str] | None = None, *, prog: str | None = None) -> T:
    """Calls a command with its arguments, and reports its errors in one line, as `reporting_errors` does.

    Args:
      main: a function of one argument, whose annotation is the dataclass of the command's arguments; or a function
        whose arguments are the flags of the command.
      argv: the arguments without the program's name; None for `sys.argv[1:]`.
      prog: the program's name in the help text; None for the name of the script.

    Returns:
      The value that `main` returned.
    """
    hints = {name: hint for name, hint in typing.get_type_hints(main).items() if name != "return"}
    target = next(iter(hints.values()), None)
    with reporting_errors():
        if len(hints) == 1 and dataclasses.is_dataclass(target):
            return main(parse(target, argv, prog=prog, description=summary(main)))
        defaults = {name: p.default for name, p in inspect.signature(main).parameters.items()}
        fields = [(n, h) if defaults[n] is inspect.Parameter.empty else (n, h, defaults[n]) for n, h in hints.items()]
        cls = dataclasses.make_dataclass("Arguments", fields, frozen=True, namespace={"__doc__": main.__doc__})
        return main(**vars(parse(cls, argv, prog=prog, description=summary(main))))


def values_of(instance: Any) -> dict[str, Any]:
    """The fields of a dataclass, by name."""
    return {field.name: getattr(instance, field.name) for field in dataclasses.fields(instance) if field.init}
