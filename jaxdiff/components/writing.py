"""From settings to JSON, and to a list of all settings of a tree."""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, get_args

from jaxdiff.checks import message, require
from jaxdiff.components.component import Component, python_value
from jaxdiff.components.declared import Choice, kind_name, options_of, plain, settings_of
from jaxdiff.components.opaque import Opaque, opaque_json
from jaxdiff.components.paths import join
from jaxdiff.components.reading import choose


def to_json(value: Any) -> Any:
    """Settings as JSON values. An object of the user's own is of the kind `opaque` (`components.opaque`).

    Raises:
      TypeError: a value is no setting.
      ValueError: a number is not a number (NaN).
    """
    value = python_value(value)
    if isinstance(value, Opaque):
        return opaque_json(value)
    if isinstance(value, Choice):
        return {"kind": kind_name(value.function), **{name: to_json(option) for name, option in value.options}}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        tree = {name: to_json(getattr(value, name)) for name in settings_of(type(value))}
        return {"kind": kind_name(type(value)), **tree} if isinstance(value, Component) else tree
    if isinstance(value, tuple | list):
        return [to_json(item) for item in value]
    if isinstance(value, Mapping):
        return {name: to_json(item) for name, item in value.items()}
    if callable(value):
        return to_json(choose(value))
    if isinstance(value, float) and not math.isfinite(value):
        require(not math.isnan(value), "setting", value, "numbers and infinities")
        return "inf" if value > 0 else "-inf"
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise TypeError(
        message("type of a setting", type(value).__name__, "numbers, words, tuples, choices and components")
    )


class Setting(NamedTuple):
    """One setting of a tree of settings.

    Attributes:
      path: its dotted path; the path of a kind ends with `.kind`.
      hint: its type. A setting `.kind` has the type of the component or the choice.
      value: its value. A setting `.kind` has the component or the choice itself.
      owner: the class or the function that declares it.
    """

    path: str
    hint: Any
    value: Any
    owner: Any


def walk(value: Any, hint: Any, path: str = "", owner: Any = None) -> Iterator[Setting]:
    """All settings of a tree, in the order of their declarations.

    Args:
      value: a setting; a dataclass, a component or a choice gives all settings below it.
      hint: its type.
      path: its path.
      owner: the class or the function that declares it.
    """
    if isinstance(value, Choice):
        yield Setting(join(path, "kind"), hint, value, value.function)
        hints = options_of(value.function)
        for name, option in value.options:
            yield from walk(option, hints[name].hint, join(path, name), value.function)
    elif isinstance(value, Opaque):
        yield Setting(join(path, "kind"), hint, value, type(value))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        if isinstance(value, Component):
            yield Setting(join(path, "kind"), hint, value, type(value))
        for name, option_ in settings_of(type(value)).items():
            yield from walk(getattr(value, name), option_.hint, join(path, name), type(value))
    elif isinstance(value, Mapping) and any(_has_parts(item) for item in value.values()):
        inner = get_args(plain(hint))[1]
        for name, item in value.items():
            yield from walk(item, inner, join(path, name), owner)
    elif isinstance(value, tuple) and any(_has_parts(item) for item in value):
        args = get_args(plain(hint))
        for i, item in enumerate(value):
            yield from walk(item, args[0] if args[1:] == (...,) else args[i], join(path, str(i)), owner)
    else:
        yield Setting(path, hint, value, owner)


def _has_parts(value: Any) -> bool:
    return isinstance(value, Choice) or (dataclasses.is_dataclass(value) and not isinstance(value, type))
