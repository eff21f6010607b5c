"""The text of `--help`: every setting with its type, its present value, and a sentence from the docstrings.

model.network = MLP
    The network. Residual multi-layer perceptron for vectors.
  --model.network.kind DiT | MLP | UNet (MLP)
  --model.network.width integer (128)
      Number of units of a hidden layer.
"""

import dataclasses
import functools
import inspect
import pathlib
import re
import shlex
import shutil
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args, get_origin

import docstring_parser

from jaxdiff.components import Choice, Component, Setting, kinds_of, options_of, settings_of, walk
from jaxdiff.components.declared import kind_of, members

REQUIRED = inspect.Parameter.empty  # the value of a setting that has none yet
NOTES = """
`_` and `-` are alike in names. `--import MODULE` imports a module or a .py file, whose kinds are then `MODULE:NAME`.
"""
NOTES_ON_KINDS = """
Several values follow one another: `--path 1 2 4`. `--path.kind KIND` chooses a kind and its default settings.
`--path none` removes a part, `--path.NAME.kind KIND` adds a named part, and `--path.0.kind KIND` a part of a list.
"""


def help_text(usage: str, description: str, cls: type, values: Mapping[str, Any]) -> str:
    """The help of a command, as wide as the terminal.

    Args:
      usage: the form of the command line.
      description: a sentence about the command.
      cls: the dataclass of the arguments.
      values: the present values of its fields, by name. A field without a value is required.
    """
    owners, groups = _owners(cls, values), {"": [""]}
    for path, hint, value, owner in settings(cls, values):
        before = path.rpartition(".")[0]
        about = _sentence(owners, path)
        if isinstance(value, Choice | Component):
            text = f"{_sentence(owners, before)} {summary(owner)}"
            groups[before] = ["", f"{before} = {kind_of(value, hint)}", *_wrapped(text, 4)]
            about = ""
        group = groups.setdefault(before, ["", before, *_wrapped(_sentence(owners, before), 4)])
        name = path.upper() if path in positional(cls) else f"--{path}"
        kind = "" if path.endswith(".kind") else kind_flag(name, hint)
        words = [type_text(m) for m in members(hint) if m is not type(None) and not kinds_of(m)] if kind else []
        flag = " or ".join([*(f"{name} {word}" for word in words), kind]) if kind else f"{name} {type_text(hint)}"
        text = f"{flag} ({value_text(value, hint)})"
        group += [*_wrapped(text, 2, 6), *_wrapped(about, 6)]
    notes = NOTES_ON_KINDS * any(kind_flag("", option.hint) for option in settings_of(cls).values()) + NOTES
    lines = [line for group in groups.values() if len(group) > 1 for line in group]
    return "\n".join([*_wrapped(f"usage: {usage}"), "", *_wrapped(description), *lines, "", *_wrapped(notes)])


def undocumented(instance: Any) -> list[str]:
    """The paths of all settings of a tree that have no sentence, and of all kinds whose docstring is empty."""
    cls: Any = type(instance)
    values = {name: getattr(instance, name) for name in settings_of(cls)}
    found, missing = list(settings(cls, values)), []
    for path, owner in _owners(cls, values).items():
        names = settings_of(owner) if isinstance(owner, type) else options_of(owner)
        places = {name: f"{path}.{name}".lstrip(".") for name in names if name not in sentences(owner)}
        # The caller of a function gives some of its arguments, which are no settings.
        missing += [place for place in places.values() if any(f"{s.path}.".startswith(f"{place}.") for s in found)]
    return missing + [s.path for s in found if isinstance(s.value, Choice | Component) and not summary(s.owner)]


def settings(cls: type, values: Mapping[str, Any]) -> Iterator[Setting]:
    """All settings below the fields of a dataclass, of which some may have no value yet (`REQUIRED`)."""
    for name, option in settings_of(cls).items():
        yield from walk(values.get(name, REQUIRED), option.hint, name, cls)


def positional(cls: Any) -> tuple[str, ...]:
    """The fields of a dataclass that are positional arguments: their metadata say `positional=True`."""
    return tuple(field.name for field in dataclasses.fields(cls) if field.metadata.get("positional"))


def kind_flag(path: str, hint: Any) -> str:
    """The flag that chooses a kind at a path or below it: `--augmentations.0.kind Flip | Crop`; or an empty string."""
    for part in members(hint):
        where = {tuple: ".0", dict: ".NAME"}.get(get_origin(part), "")
        item = get_args(part)[1 if where == ".NAME" else 0] if where else part
        if kinds := kinds_of(item, items=False):
            return f"{path}{where}.kind {' | '.join(kinds)}"
    return ""


def type_text(hint: Any) -> str:
    """The values that a type takes on a command line: `integer | none`."""
    return " | ".join(dict.fromkeys(map(_member_text, members(hint))))


def value_text(value: Any, hint: Any = None) -> str:
    """A value as one would write it on a command line."""
    if value is REQUIRED:
        return "required"
    if isinstance(value, Choice | Component) or inspect.isfunction(value):
        return kind_of(value, hint)
    if isinstance(value, Mapping):
        return " ".join(shlex.quote(f"{name}={value_text(item)}") for name, item in value.items()) or "empty"
    if isinstance(value, tuple | list):
        return " ".join(map(value_text, value)) or "empty"
    return shlex.quote(value) if isinstance(value, str) else str(value).lower()


def summary(owner: Any) -> str:
    """The first sentence of the docstring of a class or of a function."""
    text = inspect.cleandoc(owner.__doc__ or "")
    # A dataclass without a docstring gets its signature as one.
    return "" if text.startswith(f"{owner.__name__}(") else _first(text.split("\n\n")[0])


@functools.cache
def sentences(owner: Any) -> dict[str, str]:
    """The first sentence about each setting, by name: of the fields of a class and its bases, or of a function."""
    bases = [base for base in reversed(getattr(owner, "__bases__", ())) if base is not object]
    found = {name: text for base in bases for name, text in sentences(base).items()}
    try:
        entries = docstring_parser.parse_from_object(owner, docstring_parser.DocstringStyle.GOOGLE).params
    except (OSError, TypeError, SyntaxError):  # a class without source, such as one made in a notebook
        entries = docstring_parser.parse(owner.__doc__ or "", docstring_parser.DocstringStyle.GOOGLE).params
    return found | {n.strip(" *`"): _first(e.description or "") for e in entries for n in e.arg_name.split(",")}


def _owners(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """The class or the function that declares the settings directly below a path, by path."""
    places = [(*setting.path.rpartition("."), setting.owner) for setting in settings(cls, values)]
    return {"": cls, **{before: owner for before, _, name, owner in places if not name.isdecimal()}}


def _sentence(owners: Mapping[str, Any], path: str) -> str:
    before, _, name = path.rpartition(".")
    return sentences(owners[before]).get(name, "") if before in owners else ""


def _member_text(member: Any) -> str:
    origin, args = get_origin(member), get_args(member)
    if origin is tuple:
        return f"{_item_text(args[0])} ..." if args[1:] == (...,) else " ".join(map(_item_text, args))
    if origin is dict:
        return f"NAME={_item_text(args[1])} ..."
    kinds = kinds_of(member, items=False)
    if origin is Literal or kinds:
        return " | ".join(map(str, kinds or args))
    if isinstance(member, type) and issubclass(member, pathlib.PurePath):
        return "path"
    names = {int: "integer", float: "number", str: "text", bool: "true | false", type(None): "none"}
    return names[member] if member in names else str(getattr(member, "__name__", member))


def _item_text(hint: Any) -> str:
    return f"({type_text(hint)})" if "|" in type_text(hint) else type_text(hint)


def _first(text: str) -> str:
    """The first sentence of a description, on one line."""
    line = re.split(r"(?<=[.!?])\s+(?=[A-Z`])", " ".join(text.split()), maxsplit=1)[0]
    return line[:1].upper() + line[1:]


def _wrapped(text: str, indent: int = 0, later: int | None = None) -> list[str]:
    wrapper = textwrap.TextWrapper(max(shutil.get_terminal_size().columns, 40), " " * indent)
    wrapper.subsequent_indent = " " * (indent if later is None else later)
    wrapper.break_long_words = wrapper.break_on_hyphens = False
    return wrapper.wrap(" ".join(text.split()))
