"""Command lines: arguments become typed values, and a mistake becomes one line on standard error.

tyro reads the arguments by the annotations of a function or of a dataclass. tyro explains a mistake in a box of several
lines. In the log of a job one line is worth more, so this module parses the box and prints one line: the flag, the
value, the allowed values, and the nearest valid spelling. A command is

    def main(run: tyro.conf.Positional[pathlib.Path], steps: int = 20) -> None: ...

    if __name__ == "__main__":
        command_line.run(main)

or, with presets,

    with reporting_errors():
        config, name = command_line.parse_preset(Config)

Exit status: 0 for success and `--help`; otherwise the statuses of `jaxdiff.distributed.reporting`.
"""

import contextlib
import dataclasses
import functools
import inspect
import io
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import tyro

from jaxdiff import presets
from jaxdiff.checks import did_you_mean
from jaxdiff.distributed.reporting import describe, fail, reporting_errors
from jaxdiff.runs.config import Config

T = TypeVar("T")
C = TypeVar("C", bound=Config)


def parse(target: Callable[..., T], argv: Sequence[str] | None = None, *, prog: str | None = None) -> T:
    """Reads a command line into a dataclass, or calls a function with it.

    Args:
      target: a dataclass, or a function with annotated parameters. A nested dataclass gives dotted flags
        (`--train.steps`). A union of dataclasses takes the type of its default, and is no subcommand.
      argv: the arguments without the program's name; None for `sys.argv[1:]`.
      prog: the program's name in the help text; None for `sys.argv[0]`.

    Returns:
      The instance of the dataclass, or the value that the function returned. Errors of the function are not caught.

    Raises:
      SystemExit: with status 2, after one line on standard error, if the arguments do not fit, or if the
        `__post_init__` of a dataclass raises ValueError or TypeError; with status 0 after `--help`.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    is_class = inspect.isclass(target)
    if is_class:
        return _parse(target, arguments, prog or sys.argv[0])
    return _parse(_deferred(target), arguments, prog or sys.argv[0])()


def parse_preset(target: type[C], argv: Sequence[str] | None = None, *, prog: str | None = None) -> tuple[C, str]:
    """Reads `PRESET [--flag value ...]`: a preset, whose values the flags replace.

    Args:
      target: a dataclass that extends `Config`. The preset gives the defaults of the fields of `Config`.
      argv: the arguments without the program's name; None for `sys.argv[1:]`.
      prog: the program's name in the help text; None for `sys.argv[0]`.

    Returns:
      An instance of `target`, and the preset's name.

    Raises:
      ValueError: no preset has this name, or the preset file cannot be used.
      SystemExit: with status 2, after one line on standard error, if the arguments do not fit; with status 0 after
        `--help`.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    prog = prog or sys.argv[0]
    given = arguments[0] if arguments else ""
    if given in ("-h", "--help"):
        lines = [f"    {name:<10} {presets.open_preset(name).description}" for name in presets.NAMES]
        print(f"usage: {prog} PRESET [--flag value ...]", "", "PRESET is the path of a preset file, or", sep="\n")
        print(*lines, "", f"`{prog} PRESET --help` lists every flag.", sep="\n")
        raise SystemExit(0)
    if not given or given.startswith("-"):
        before = f" before {given!r}" if given else ""
        fail(f"missing PRESET{before}; allowed are {presets.ALLOWED}")
    preset = presets.open_preset(given)
    default = target(**{f.name: getattr(preset.config, f.name) for f in dataclasses.fields(preset.config)})
    parsed = _parse(target, arguments[1:], f"{prog} {given}", default=default, description=preset.description)
    return parsed, preset.name


def config_of(arguments: Config) -> Config:
    """The configuration alone, without the fields that a command adds to it."""
    return Config(**{f.name: getattr(arguments, f.name) for f in dataclasses.fields(Config)})


def run(main: Callable[..., T], argv: Sequence[str] | None = None, *, prog: str | None = None) -> T:
    """Calls `main` with the arguments of the command line, and reports its errors in one line.

    The arguments and the returned value are those of `parse`. Errors end the program as in `reporting_errors`.
    """
    with reporting_errors():
        return parse(main, argv, prog=prog)


def _deferred(function: Callable[..., T]) -> Callable[..., Callable[[], T]]:
    """`function` as one that only binds its arguments, so that errors of parsing and of the call are told apart."""

    @functools.wraps(function)
    def bind(*args: Any, **kwargs: Any) -> Callable[[], T]:
        return functools.partial(function, *args, **kwargs)

    return bind


def _parse(target: Callable[..., T], arguments: list[str], prog: str, **options: Any) -> T:
    """Parses with tyro, and prints an error in one line. `options` go to `tyro.cli`."""

    def cli(args: list[str]) -> tuple[T, list[str]]:
        # tyro returns unknown arguments here: its error message would not name them exactly.
        markers = (tyro.conf.AvoidSubcommands,)
        return tyro.cli(target, args=args, prog=prog, return_unknown_args=True, config=markers, **options)

    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            parsed, unknown = cli(arguments)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        fail(_explanation(cli, arguments, [], prog, target))
    except (ValueError, TypeError) as error:
        fail(describe(error))
    if unknown:
        fail(_explanation(cli, arguments, unknown, prog, target))
    # tyro's warnings were held back so that an error stays one line.
    sys.stderr.write(printed.getvalue())
    return parsed


def _explanation(
    cli: Callable[[list[str]], object], arguments: list[str], unknown: list[str], prog: str, target: Callable[..., Any]
) -> str:
    """Why tyro refused these arguments. An unknown flag comes first, since it often causes the other errors."""
    flags = _flags(cli)
    for token in _before_end_of_options(arguments):
        if _is_flag(token) and _flag_name(token) not in flags:
            name = token.partition("=")[0]
            return f"unknown flag {name!r}{did_you_mean(name, flags) or f'; {prog} --help lists the valid ones'}"
    if unknown:
        return f"unexpected argument {unknown[0]!r}{_switch_note(arguments, unknown[0], flags)}"
    return _condensed(_transcript(cli, arguments), arguments, target)


def _switch_note(arguments: list[str], value: str, flags: set[str]) -> str:
    """A note for a value after a flag that takes none, such as `--data.flip yes`."""
    for before, token in zip(["", *arguments], arguments, strict=False):
        flag = before if token == value else token.removesuffix(f"={value}")
        path, _, last = _flag_name(flag).rpartition(".")
        opposite = f"{path}.no-{last}" if path else f"--no-{last.removeprefix('--')}"
        if flag != token and opposite in flags:
            return f": {flag} takes no value; its opposite is {opposite}"
    return ""


def _condensed(box: str, arguments: list[str], target: Callable[..., Any]) -> str:
    """tyro's box as one line. A message of an unknown form keeps tyro's words."""
    # tyro draws a frame with the title in its top border if the terminal can show it, otherwise a rule below the title.
    framed = box.lstrip().startswith("\u256d")
    lines = [line.rstrip() for line in re.sub("[\u2501-\u257f]", " ", box.replace("\u2500", "-")).strip().splitlines()]
    rules = [i for i, line in enumerate(lines) if line and not line.strip("- ")]
    if len(rules) > (0 if framed else 1):
        start, end = (1, rules[0]) if framed else (rules[0] + 1, rules[1])
        body, help_text = lines[start:end], lines[end:]
    else:
        body, help_text = lines, []
    text = " ".join(" ".join(body).split())

    if found := re.match(r"invalid choice '.*' for argument '(--\S+)'\. Expected one of \((.*)\)\.$", text):
        choices = re.findall(r"'([^']*)'", found[2])
        return _wrong_value(found[1], "{" + ",".join(choices) + "}", arguments)
    if found := re.match(r"Missing value for argument '(--\S+)'\. Expected (\d+) values", text):
        return _wrong_value(found[1], f"{found[2]} value{'s' * (found[2] != '1')}", arguments)
    if found := re.match(r"Error parsing (--[^\s:]+): ", text):
        usage = re.search(rf"^ *{re.escape(found[1])} (\S.*)$", "\n".join(help_text), re.MULTILINE)
        if usage:
            return _wrong_value(found[1], usage[1], arguments)
    if found := re.match(r"Error parsing ([\w.]+): (.*)", text):
        # An error of a dataclass. The path of a nested dataclass helps a reader; the name of the outermost does not.
        return found[2] if found[1] == getattr(target, "__name__", "") else f"{found[1]}: {found[2]}"
    if body and body[0].strip().startswith("Missing from "):
        indent = len(body[0]) - len(body[0].lstrip())
        # Arguments are indented by four columns below the heading, and help texts by eight.
        missing = [line.strip() for line in body[1:] if line.startswith(" " * (indent + 4) + line.strip()[:1])]
        return f"missing {', '.join(line for line in missing if line)}"
    return text or "the arguments were refused"


def _wrong_value(flag: str, allowed: str, arguments: list[str]) -> str:
    values = _values_after(flag, arguments)
    choices = [choice for group in re.findall(r"{([^}]*)}", allowed) for choice in group.split(",")]
    given = repr(" ".join(values)) if values else "nothing"
    return f"{flag} takes {allowed}, got {given}{did_you_mean(values[0], choices) if values else ''}"


def _values_after(flag: str, arguments: list[str]) -> list[str]:
    """The values given to the last use of `flag`."""
    values: list[str] = []
    reading = False
    for token in arguments:
        if _is_flag(token):
            reading = _flag_name(token) == flag
            if reading:
                _, equals, attached = token.partition("=")
                values = [attached] if equals else []
        elif reading:
            values.append(token)
    return values


def _flags(cli: Callable[[list[str]], object]) -> set[str]:
    """All flags in the help text."""
    return {flag.rstrip(".") for flag in re.findall(r"(?<![\w-])--?[A-Za-z][\w.-]*", _transcript(cli, ["--help"]))}


def _transcript(cli: Callable[[list[str]], object], arguments: list[str]) -> str:
    """The text that tyro prints for these arguments on a terminal wide enough for every line."""
    printed = io.StringIO()
    width = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "10000"
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed), contextlib.suppress(SystemExit):
            cli(arguments)
    finally:
        if width is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = width
    return printed.getvalue()


def _before_end_of_options(arguments: list[str]) -> list[str]:
    return arguments[: arguments.index("--")] if "--" in arguments else arguments


def _is_flag(token: str) -> bool:
    """Whether a token has the form of a flag. `-1`, `-.5` and `-inf` are numbers."""
    return re.match(r"--?[A-Za-z_]", token) is not None and token.lower() not in ("-inf", "-infinity", "-nan")


def _flag_name(token: str) -> str:
    """A flag as in the help text: without its value, and with hyphens."""
    return token.partition("=")[0].replace("_", "-")
