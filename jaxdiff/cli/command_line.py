"""Command lines for the scripts: typed arguments in, one line on standard error when something is wrong.

The arguments are read by tyro from a function's or a dataclass's annotations. tyro explains a mistake in a box of
several lines; in a job's log one line is worth more, so what it printed is read back and said in one: the flag, the
value, what is allowed, and the nearest valid spelling. A script is then

    def main(run: tyro.conf.Positional[pathlib.Path], steps: int = 20) -> None: ...

    if __name__ == "__main__":
        command_line.run(main)

or, over named configurations,

    with reporting_errors():
        config, name = command_line.parse_preset(Config)

Exit status: 0 for success and `--help`, 2 for anything the caller can mend, 130 when interrupted from the keyboard, 143
when terminated by SIGTERM.
The environment variable JAXDIFF_TRACEBACK=1 prints the traceback behind the line.
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
        target: a dataclass, or a function whose parameters are annotated. Nested dataclasses give dotted flags
            (`--train.steps`); a union of dataclasses takes the type of its default and is no subcommand.
        argv: the arguments, without the program's name; `sys.argv[1:]` if None.
        prog: the program's name in the help text; `sys.argv[0]` if None.

    Returns:
        The instance, or what the function returned. What the function raises is not caught here:
        see `reporting_errors`.

    Raises:
        SystemExit: status 2 after one line on standard error for arguments that do not fit, including those that a
            dataclass's `__post_init__` refuses with ValueError or TypeError; status 0 after `--help`.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    is_class = inspect.isclass(target)
    if is_class:
        return _parse(target, arguments, prog or sys.argv[0])
    return _parse(_deferred(target), arguments, prog or sys.argv[0])()


def parse_preset(target: type[C], argv: Sequence[str] | None = None, *, prog: str | None = None) -> tuple[C, str]:
    """Reads `PRESET [--flag value ...]`: a preset, with the values of the flags in the place of its own.

    Args:
        target: a dataclass that extends `Config`. The preset gives the defaults of the fields of `Config`.
        argv: the arguments, without the program's name; `sys.argv[1:]` if None.
        prog: the program's name in the help text; `sys.argv[0]` if None.

    Returns:
        An instance of `target`, and the preset's name.

    Raises:
        ValueError: the file of a preset cannot be used.
        SystemExit: status 2 after one line on standard error for a name or arguments that do not fit; 0 after `--help`.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    prog = prog or sys.argv[0]
    choices = f"(presets: {', '.join(presets.NAMES)}, or the path of a file)"
    given = arguments[0] if arguments else ""
    if given in ("-h", "--help"):
        described = [presets.open_preset(name) for name in presets.NAMES]
        lines = [f"    {preset.name:<10} {preset.description}" for preset in described]
        print(f"usage: {prog} PRESET [--flag value ...]", "", "presets, or the path of a file of one's own:", sep="\n")
        print(*lines, "", f"`{prog} PRESET --help` lists every flag.", sep="\n")
        raise SystemExit(0)
    if not given:
        fail(f"no preset given {choices}")
    if given.startswith("-"):
        fail(f"the preset comes before the flags, got {given!r} first {choices}")
    if not presets.is_path(given) and given not in presets.NAMES:
        fail(f"unknown preset {given!r}{did_you_mean(given, presets.NAMES)} {choices}")
    preset = presets.open_preset(given)
    default = target(**{f.name: getattr(preset.config, f.name) for f in dataclasses.fields(preset.config)})
    parsed = _parse(target, arguments[1:], f"{prog} {given}", default=default, description=preset.description)
    return parsed, preset.name


def run(main: Callable[..., T], argv: Sequence[str] | None = None, *, prog: str | None = None) -> T:
    """Calls `main` with the command line's arguments, under `reporting_errors`: a script's last line.

    Args, returned value and exit statuses: see `parse` and `reporting_errors`.
    """
    with reporting_errors():
        return parse(main, argv, prog=prog)


def _deferred(function: Callable[..., T]) -> Callable[..., Callable[[], T]]:
    """`function` with its arguments bound and not yet called, so that reading them and running it fail apart."""

    @functools.wraps(function)
    def bind(*args: Any, **kwargs: Any) -> Callable[[], T]:
        return functools.partial(function, *args, **kwargs)

    return bind


def _parse(target: Callable[..., T], arguments: list[str], prog: str, **options: Any) -> T:
    """tyro's parse, with its errors in one line. `options` go to `tyro.cli`."""

    def cli(args: list[str]) -> tuple[T, list[str]]:
        # Unknown arguments are asked for, not refused, because tyro then says exactly which they are.
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
    # Warnings about the annotations, say: withheld until now so that an error stays one line.
    sys.stderr.write(printed.getvalue())
    return parsed


def _explanation(
    cli: Callable[[list[str]], object], arguments: list[str], unknown: list[str], prog: str, target: Callable[..., Any]
) -> str:
    """Why these arguments were refused: an unknown flag first, since it is the likely cause of what else tyro says."""
    flags = _flags(cli)
    for token in _before_end_of_options(arguments):
        if _is_flag(token) and _flag_name(token) not in flags:
            name = token.partition("=")[0]
            return f"unknown flag {name!r}{did_you_mean(name, flags) or f'; {prog} --help lists the valid ones'}"
    if unknown:
        return f"unexpected argument {unknown[0]!r}{_switch_note(arguments, unknown[0], flags)}"
    return _condensed(_transcript(cli, arguments), arguments, target)


def _switch_note(arguments: list[str], value: str, flags: set[str]) -> str:
    """A note for `--train.resume no`: on/off flags take no value."""
    for before, token in zip(["", *arguments], arguments, strict=False):
        flag = before if token == value else token.removesuffix(f"={value}")
        path, _, last = _flag_name(flag).rpartition(".")
        opposite = f"{path}.no-{last}" if path else f"--no-{last.removeprefix('--')}"
        if flag != token and opposite in flags:
            return f": {flag} takes no value; its opposite is {opposite}"
    return ""


def _condensed(box: str, arguments: list[str], target: Callable[..., Any]) -> str:
    """tyro's box in one line: its own words where they are of no known form."""
    # tyro draws a frame with the title in its top border where the terminal can show one, else a rule below the title.
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
        # The configuration's own check. The path of a nested part helps; the outermost class's name does not.
        return found[2] if found[1] == getattr(target, "__name__", "") else f"{found[1]}: {found[2]}"
    if body and body[0].strip().startswith("Missing from "):
        indent = len(body[0]) - len(body[0].lstrip())
        # Each argument is indented by four below the heading, its help text by eight.
        missing = [line.strip() for line in body[1:] if line.startswith(" " * (indent + 4) + line.strip()[:1])]
        return f"missing {', '.join(line for line in missing if line)}"
    return text or "the arguments were refused"


def _wrong_value(flag: str, allowed: str, arguments: list[str]) -> str:
    values = _values_after(flag, arguments)
    choices = [choice for group in re.findall(r"{([^}]*)}", allowed) for choice in group.split(",")]
    given = repr(" ".join(values)) if values else "nothing"
    return f"{flag} takes {allowed}, got {given}{did_you_mean(values[0], choices) if values else ''}"


def _values_after(flag: str, arguments: list[str]) -> list[str]:
    """What the caller gave to the last use of `flag`."""
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
    """Every flag that the help text names."""
    return {flag.rstrip(".") for flag in re.findall(r"(?<![\w-])--?[A-Za-z][\w.-]*", _transcript(cli, ["--help"]))}


def _transcript(cli: Callable[[list[str]], object], arguments: list[str]) -> str:
    """What tyro prints for these arguments, in a terminal so wide that it need not break a line."""
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
    """Whether a token has the form of a flag; `-1`, `-.5` and `-inf` are numbers."""
    return re.match(r"--?[A-Za-z_]", token) is not None and token.lower() not in ("-inf", "-infinity", "-nan")


def _flag_name(token: str) -> str:
    """A flag as the help text spells it: without its value, with hyphens."""
    return token.partition("=")[0].replace("_", "-")
