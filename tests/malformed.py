"""Malformed command lines for any tree of settings, made from the types of the settings.

for arguments, flag in malformed(config): the program has to print one line that names the flag, and status 2.
"""

import itertools
import random
import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from jaxdiff.components import Choice, Component, Setting, kinds_of, settings_of, walk


def malformed(instance: Any, limit: int = 300, seed: int = 0) -> list[tuple[list[str], str]]:
    """Malformed arguments, each with the flag that the error has to name.

    The arguments are of six sorts in equal shares, as far as the tree has them: a wrong type, a misspelt name, an
    unknown kind, no value, a number that its owner refuses, and an unknown literal.

    Args:
      instance: a dataclass, whose fields are settings, parts, and parts of parts.
      limit: the number of lines at most.
      seed: the seed of the choice among all possible lines, and of the misspellings.
    """
    rng = random.Random(seed)
    cls: Any = type(instance)
    found = [s for name, o in settings_of(cls).items() for s in walk(getattr(instance, name), o.hint, name)]
    names = {setting.path for setting in found}
    sorts = [
        [pair for setting in found for pair in sort(setting)] for sort in (_wrong_type, _kind, _no_value, _literal)
    ]
    sorts.append([pair for setting in found for pair in _misspelt(setting, names, rng)])
    sorts.append([pair for setting in found for pair in _refused(setting, instance)])
    for sort in sorts:
        rng.shuffle(sort)
    turns = itertools.chain.from_iterable(itertools.zip_longest(*sorts))
    return list(itertools.islice((pair for pair in turns if pair is not None), limit))


def _wrong_type(setting: Setting) -> Iterator[tuple[list[str], str]]:
    types_ = _types(setting.hint)
    flag = f"--{setting.path}"
    if types_ & {int, float, bool} and not types_ & {str, dict}:
        yield [f"{flag}=wrong"], flag
        yield [f"{flag}=1e"], flag
        if float not in types_:
            yield [f"{flag}=2.5"], flag
    if dict in types_:
        yield [flag, "wrong"], flag


def _kind(setting: Setting) -> Iterator[tuple[list[str], str]]:
    if isinstance(setting.value, Choice | Component):
        for kind in kinds_of(setting.hint):
            yield [f"--{setting.path}", f"{kind}s"], f"--{setting.path}"
        yield [f"--{setting.path}=nosuch:Kind"], f"--{setting.path}"


def _no_value(setting: Setting) -> Iterator[tuple[list[str], str]]:
    if not _types(setting.hint) & {bool, tuple, dict}:
        yield [f"--{setting.path}"], f"--{setting.path}"


def _literal(setting: Setting) -> Iterator[tuple[list[str], str]]:
    literals = [arg for part in _parts(setting.hint) if get_origin(part) is Literal for arg in get_args(part)]
    if literals and str not in _types(setting.hint):
        yield from (([f"--{setting.path}", f"{literal}x"], f"--{setting.path}") for literal in literals)


def _misspelt(setting: Setting, names: set[str], rng: random.Random) -> Iterator[tuple[list[str], str]]:
    before, _, name = setting.path.rpartition(".")
    if name.isdecimal():
        return
    for i in {0, len(name) - 1, rng.randrange(len(name))}:
        for wrong in (name[:i] + name[i + 1 :], name[: i + 1] + name[i:], name[:i] + "q" + name[i + 1 :]):
            path = f"{before}.{wrong}" if before else wrong
            if wrong and path not in names:
                yield [f"--{path}", "1"], f"--{path}"


def _refused(setting: Setting, instance: Any) -> Iterator[tuple[list[str], str]]:
    """A number that the owner of the setting refuses by name, when the owner is made with this number alone changed."""
    before, _, name = setting.path.rpartition(".")
    owner = instance
    for step in filter(None, before.split(".")):
        owner = owner[int(step)] if isinstance(owner, tuple) else _entry(owner, step)
    if not _types(setting.hint) & {int, float} or isinstance(owner, Choice):  # a function is not called yet
        return
    cls: Any = type(owner)
    values = {other: getattr(owner, other) for other in settings_of(cls)}
    for number in (-(10**12), 0, -1, 10**12):
        try:
            cls(**{**values, name: number})
        except (ValueError, TypeError) as error:
            if str(error).startswith(f"{name} = "):
                yield [f"--{setting.path}={number}"], f"--{setting.path}"


def _entry(owner: Any, name: str) -> Any:
    if isinstance(owner, Choice):
        return dict(owner.options)[name]
    return owner[name] if isinstance(owner, dict) else getattr(owner, name)


def _types(hint: Any) -> set[Any]:
    """The scalar types inside a type, and `tuple` or `dict` around them."""
    found: set[Any] = set()
    for part in _parts(hint):
        origin = get_origin(part)
        if origin in (tuple, dict):
            found |= {origin} | {inner for arg in get_args(part) if arg is not ... for inner in _types(arg)}
        elif isinstance(part, type):
            found.add(part if part in (int, float, bool, str, type(None)) else str)
    return found


def _parts(hint: Any) -> list[Any]:
    if get_origin(hint) is Annotated:
        return _parts(get_args(hint)[0])
    if get_origin(hint) in (Union, types.UnionType):
        return [part for arg in get_args(hint) for part in _parts(arg)]
    return [hint]
