"""Flags: every flag is a typed path into a tree of settings.

    --train.steps 500                    a setting; `_` and `-` are alike in names
    --model.network.kind DiT             another kind, which begins with its own defaults
    --model.network.depth 12             a setting of the kind that was chosen
    --model.network.multipliers 1 2 4    several values, or none
    --model.conditions.text.kind Text, --model.conditions.label none, --augmentations.0.kind Flip

A flag edits a tree of JSON values, in which unchanged parts are objects still. `components.from_json` decodes the tree,
so that one function refuses a wrong value, whether it stands in a file or on a command line. argparse needs all flags
before it reads the first one; here a kind decides which flags there are.
"""

import contextlib
import dataclasses
import functools
import inspect
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

from jaxdiff.checks import did_you_mean, message
from jaxdiff.cli.help_text import kind_flag, positional, settings, type_text, value_text
from jaxdiff.components import Choice, Component, Option, choose, from_json, kinds_of, options_of, settings_of
from jaxdiff.components.declared import kind_of, members

T = TypeVar("T")


@dataclasses.dataclass
class Given:
    """A flag as it was given, and the words after it. Whoever takes a word removes it from the list.

    Attributes:
      flag: the flag; empty for words that follow no flag.
      words: the words that are not taken yet.
      takes: the values that its setting takes, when this is known.
    """

    flag: str
    words: list[str]
    takes: str = ""

    def names(self) -> list[str]:
        """The names in the path."""
        return self.flag.removeprefix("--").replace("-", "_").split(".")

    def place(self) -> tuple[int, list[str]]:
        """A key for sorting: a kind comes before the settings below it, and the items of a list in their order."""
        names = [name.zfill(6) for name in self.names()]
        names = names[:-1] if names[-1] == "00kind" else names
        return len(names), names


class _UnknownError(Exception):
    """A flag names no setting. The arguments are the valid flags where its path ends."""


def split(arguments: Sequence[str]) -> list[Given]:
    """The flags with the words after them. Words before all flags, after `--`, or after `--x=1` have an empty flag."""
    found = [Given("", [])]
    for i, word in enumerate(arguments):
        if word == "--":
            return [*found, Given("", list(arguments[i + 1 :]))]
        # -1, -.5 and -inf are numbers.
        if re.match(r"--?[A-Za-z_]", word) and word.lower() not in ("-inf", "-infinity", "-nan"):
            flag, equals, value = word.partition("=")
            found += [Given(flag, [value]), Given("", [])] if equals else [Given(flag, [])]
        else:
            found[-1].words.append(word)
    return found


def read_flags(cls: type[T], values: Mapping[str, Any], line: Sequence[Given]) -> T:
    """Makes a dataclass from values that the flags and the positional arguments of a command line change.

    Args:
      cls: the dataclass.
      values: the values before, by name. A field that is neither here nor on the line is missing.
      line: the flags. Their words are taken.

    Raises:
      ValueError: a flag is unknown; a value is absent, unexpected or refused.
    """
    known: Mapping[str, Option] = settings_of(cls)  # type: ignore[arg-type]
    places, tree = positional(cls), dict(values)
    flags = {name: name.upper() if name in places else f"--{name}" for name in known}
    for given in sorted((given for given in line if given.flag), key=Given.place):
        try:
            if not given.flag.startswith("--") or given.names()[0] in places:
                raise _UnknownError
            tree = _below(known, tree, given.names(), given, "")
        except _UnknownError as unknown:
            valid = [*unknown.args, *(f"--{s.path}" for s in settings(cls, values) if s.path not in places), "--help"]
            near = did_you_mean(given.flag, valid) or "; --help lists the valid ones"
            raise ValueError(f"unknown flag {given.flag!r}{near}") from None
    free = [(word, given) for given in line for word in given.words]
    for name in places:
        spare = Given(flags[name], [word for word, _ in free])
        if free:
            tree[name] = _read(known[name].hint, spare, flags[name])
            free = free[len(free) - len(spare.words) :]
    if free:
        word, given = free[0]
        raise ValueError(
            f"unexpected argument {word!r}" + (f"; {given.flag} takes {given.takes}" if given.takes else "")
        )
    if missing := [flag for name, flag in flags.items() if name not in tree]:
        raise ValueError(f"missing {', '.join(missing)}")
    changed = [name for name in known if name not in values or tree[name] is not values[name]]
    tree |= {name: from_json(known[name].hint, tree[name], flags[name]) for name in changed}
    try:
        return cls(**tree)
    except (ValueError, TypeError) as error:
        field = re.match(r"(\w+)[\w.\[\]]* = ", str(error))
        raise ValueError(f"--{error}" if field is not None and field[1] in known else str(error)) from error


def _below(known: Mapping[str, Option], tree: Mapping[str, Any], names: list[str], given: Given, path: str) -> Any:
    """`tree`, whose settings are `known`, after a flag whose path goes on with `names`."""
    prefix = f"{path}." if path else "--"
    if names[0] not in known:
        raise _UnknownError(*(prefix + name for name in known))
    hint, default = known[names[0]]
    value = tree.get(names[0], None if default is inspect.Parameter.empty else default)
    return {**tree, names[0]: _changed(value, hint, names[1:], given, prefix + names[0])}


def _changed(value: Any, hint: Any, names: list[str], given: Given, path: str) -> Any:
    """The setting at `path` after a flag whose path goes on with `names`."""
    if not names:
        return _read(hint, given, path)
    tree = _opened(value, hint)
    for part in members(hint):
        if get_origin(part) is tuple:
            return _item_changed(tree or (), get_args(part), names, given, path)
        if get_origin(part) is dict:
            return _entry_changed(tree or {}, get_args(part)[1], names, given, path)
        if kinds_of(part, items=False):
            return _kind_changed(tree, part, names, given, path)
        if isinstance(part, type) and dataclasses.is_dataclass(part):
            return _below(settings_of(part), tree or {}, names, given, path)
    raise _UnknownError


def _item_changed(items: Sequence[Any], args: Sequence[Any], names: list[str], given: Given, path: str) -> Any:
    """A tuple after a flag below one of its items, or below the item after the last one."""
    hints = [args[0]] * (len(items) + 1) if args[1:] == (...,) else args
    i = int(names[0]) if names[0].isdecimal() else len(hints)
    if i >= min(len(hints), len(items) + 1):
        raise _UnknownError(*(f"{path}.{i}" for i in range(len(items))))
    return [*items[:i], _changed((*items, None)[i], hints[i], names[1:], given, f"{path}.{i}"), *items[i + 1 :]]


def _entry_changed(entries: Mapping[str, Any], hint: Any, names: list[str], given: Given, path: str) -> Any:
    """A mapping after a flag below one of its entries, or below a new entry."""
    name = next((known for known in entries if known.replace("-", "_") == names[0]), names[0])
    if not names[1:] and kinds_of(hint, items=False) and _is_none(given.words[:1]):
        if name not in entries:
            raise _UnknownError(*(f"{path}.{known}" for known in entries))
        del given.words[0]
        return {known: entry for known, entry in entries.items() if known != name}
    return {**entries, name: _changed(entries.get(name), hint, names[1:], given, f"{path}.{name}")}


def _kind_changed(tree: Any, hint: Any, names: list[str], given: Given, path: str) -> Any:
    """A component or a choice after a flag below it."""
    if names == ["kind"]:
        given.takes = type_text(hint)
        kind = _read(str, given, f"{path}.kind")
        return tree if isinstance(tree, Mapping) and tree["kind"] == kind else {"kind": kind}
    if not isinstance(tree, Mapping):
        now = value_text(tree)
        raise ValueError(f"{given.flag} is unknown, since {path} is {now}; allowed are {kind_flag(path, hint)}")
    module, _, name = tree["kind"].partition(":")
    owner = kinds_of(hint, items=False).get(tree["kind"]) or getattr(sys.modules.get(module), name, None)
    if inspect.isfunction(owner):
        return _below(options_of(owner), tree, names, given, path)
    if inspect.isclass(owner) and issubclass(owner, Component):
        return _below(settings_of(owner), tree, names, given, path)  # type: ignore[arg-type]
    return from_json(hint, {"kind": tree["kind"]}, path)  # raises the error of an unknown kind


def _opened(value: Any, hint: Any) -> Any:
    """A setting as a tree of JSON values, of which only the first level is opened."""
    if inspect.isfunction(value) or isinstance(value, functools.partial):
        value = choose(value)
    if isinstance(value, Choice):
        return {"kind": kind_of(value, hint), **dict(value.options)}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kind = {"kind": kind_of(value, hint)} if isinstance(value, Component) else {}
        return {**kind, **{name: getattr(value, name) for name in settings_of(type(value))}}
    return value


def _read(hint: Any, given: Given, path: str) -> Any:
    """The JSON value of the words after a flag. Words that do not fit stay words, which the decoder refuses."""
    given.takes = given.takes or type_text(hint)
    parts = members(hint)
    for part in parts:
        if get_origin(part) in (tuple, dict):
            words, given.words = given.words, []
            return _several(hint, part, words, path)
    fitting = _fitting(hint, given.words[:1])
    if {*parts} <= {bool, type(None)} and not fitting:
        return True
    for part in parts:
        if (
            isinstance(part, type)
            and dataclasses.is_dataclass(part)
            and not kinds_of(part, items=False)
            and not fitting
        ):
            raise _UnknownError(*(f"{path}.{name}" for name in settings_of(part)))
    if not given.words:
        raise ValueError(f"{path} needs a value: {given.takes}")
    word = given.words.pop(0)
    if kinds_of(hint, items=False) and not fitting:
        others = [f"{type_text(part)} and " for part in parts if not kinds_of(part, items=False)]
        raise ValueError(message(path, word, "".join(others) + kind_flag(path, hint)))
    return fitting[0] if fitting else word


def _several(hint: Any, part: Any, words: list[str], path: str) -> Any:
    """The JSON value of words for a type whose member `part` is a tuple or a dict."""
    args, named = get_args(part), get_origin(part) is dict
    if len(words) == 1 and (fitting := _fitting(hint, words)):
        return fitting[0]
    if _is_none(words) and (named or not _fitting(args[0], words)):  # `none` empties, unless it is an item
        words = []
    if words and (choice := kind_flag(path, part)):
        raise ValueError(message(path, " ".join(words), f"none and {choice}"))
    if named:
        pairs = [word.partition("=") for word in words]
        for name, equals, _ in pairs:
            if not equals:
                raise ValueError(message(path, name, "NAME=VALUE"))
        return {name: [*_fitting(args[1], [value]), value][0] for name, _, value in pairs}
    hints = [args[0]] * len(words) if args[1:] == (...,) else [*args, *[str] * len(words)]
    return [[*_fitting(item, [word]), word][0] for item, word in zip(hints, words, strict=False)]


def _is_none(words: Sequence[str]) -> bool:
    return [word.lower() for word in words] == ["none"]


def _fitting(hint: Any, words: Sequence[str]) -> list[Any]:
    """The values that words may mean and that a type takes. Text comes last, since every word is text."""
    names = {"none": None, "true": True, "false": False}
    meanings: list[Any] = [names[word.lower()] for word in words if word.lower() in names]
    for kind in (int, float, Path, str):
        with contextlib.suppress(ValueError):
            meanings += map(kind, words)
    found = []
    for meaning in meanings:
        with contextlib.suppress(ValueError, TypeError):
            from_json(hint, meaning)
            found.append(meaning)
    return found
