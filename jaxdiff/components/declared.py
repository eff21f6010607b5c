"""The settings that classes and functions declare, and the kinds that a setting may choose from."""

import dataclasses
import functools
import importlib
import inspect
import sys
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from jaxdiff.components.component import IS_PART, Component


@dataclasses.dataclass(frozen=True)
class Choices:
    """The functions that a setting may choose from: an annotation, `Annotated[Callable[..., Tableau], Choices(...)]`.

    Attributes:
      home: the module whose `__all__` names the functions.
      given: the arguments that the caller of the choice may give, by name. All others are options.
    """

    home: str
    given: tuple[str, ...] = ()

    def members(self) -> dict[str, Callable[..., Any]]:
        """The functions of the home whose arguments are all given or options."""
        return {name: f for name, f in _shown(self.home).items() if inspect.isfunction(f) and self.fits(f)}

    def fits(self, function: Callable[..., Any]) -> bool:
        """Whether every argument of `function` that has no default is given or can be an option."""
        parameters = inspect.signature(function).parameters.values()
        options = options_of(function)
        required = [
            p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        ]
        return all(name in self.given or name in options for name in required)


@dataclasses.dataclass(frozen=True)
class Choice:
    """A function and its options, which `choose` makes. It is hashable.

    Attributes:
      function: the function.
      options: the names and values of its options, the defaults too.
    """

    function: Callable[..., Any]
    options: tuple[tuple[str, Any], ...] = ()

    def __call__(self, *args: Any, **given: Any) -> Any:
        """Calls the function with its options.

        Named arguments that the function does not take are left out. A named argument takes the place of an option.
        """
        taken = inspect.signature(self.function).parameters
        return self.function(*args, **{**dict(self.options), **{k: v for k, v in given.items() if k in taken}})


class Option(NamedTuple):
    """A setting as its owner declares it.

    Attributes:
      hint: its type. An option of a function has a type that JSON can express.
      default: its default; `inspect.Parameter.empty` for none.
    """

    hint: Any
    default: Any


def function_of(choice: Any) -> Callable[..., Any]:
    """The function of a choice, or the function itself."""
    function: Callable[..., Any] = getattr(choice, "function", choice)
    return function


@functools.cache
def options_of(function: Callable[..., Any]) -> dict[str, Option]:
    """The arguments of a function that can be settings, by name: those whose annotations JSON can express.

    Of a union it is enough that JSON can express some members: an argument `tuple[float, ...] | np.ndarray` is an
    option of the type `tuple[float, ...]`.
    """
    hints = typing.get_type_hints(function, include_extras=True)
    parameters = inspect.signature(function).parameters
    found = {n: (_expressed(hints[n]), p.default) for n, p in parameters.items() if n in hints}
    return {n: Option(hint, default) for n, (hint, default) in found.items() if _expressible(hint)}


@functools.cache
def settings_of(cls: type) -> dict[str, Option]:
    """The fields of a dataclass or of a Linen module that are settings, by name."""
    hints = typing.get_type_hints(cls, include_extras=True)
    found, fields = {}, dataclasses.fields(cls)
    # A Linen module has a name and a parent, which are no settings.
    linen = {"parent", "name"} if "parent" in {field.name for field in fields} else set()
    for field in fields:
        if field.metadata.get("setting", True) and field.name not in linen:
            default = field.default
            if default is dataclasses.MISSING:
                factory = field.default_factory
                default = inspect.Parameter.empty if factory is dataclasses.MISSING else factory()
            found[field.name] = Option(hints[field.name], default)
    return found


def members(hint: Any) -> list[Any]:
    """The types of a union, or a type alone, without annotations. A choice of functions keeps its annotation."""
    if get_origin(hint) is Annotated and choices_of(hint) is None:
        return members(get_args(hint)[0])
    if get_origin(hint) in (Union, types.UnionType):
        return [member for arg in get_args(hint) for member in members(arg)]
    return [hint]


def kinds_of(hint: Any, *, items: bool = True) -> dict[str, Any]:
    """The built-in kinds that a setting of this type may have, by name; empty for a type without kinds.

    A class that says its `home` itself is the base of the kinds there, and no kind.

    Args:
      hint: the type.
      items: whether the kinds of the items of a tuple and of a mapping count too.
    """
    found: dict[str, Any] = {}
    for part in members(hint):
        choices = choices_of(part)
        if choices is not None:
            found |= choices.members()
        elif isinstance(part, type) and issubclass(part, Component):
            shown = _shown(part.home).items()
            found |= {n: v for n, v in shown if isinstance(v, type) and issubclass(v, part) and "home" not in vars(v)}
        elif items:
            found |= {name: kind for arg in get_args(part) for name, kind in kinds_of(arg).items()}
    return found


def is_part(hint: Any) -> bool:
    """Whether a setting of this type is the path of a part: `Part`, or `Part | None`."""
    if get_origin(hint) in (Union, types.UnionType):
        return any(map(is_part, get_args(hint)))
    return IS_PART in getattr(hint, "__metadata__", ())


def choices_of(hint: Any) -> Choices | None:
    """The functions that an annotated type lets a setting choose from; None for other types."""
    return next((extra for extra in get_args(hint)[1:] if isinstance(extra, Choices)), None)


def kind_name(thing: Any) -> str:
    """The kind of a class or of a function: a short name if a folder of jaxdiff shows it in its `__all__`."""
    module = thing.__module__ or "__main__"  # code that `exec` runs may have none
    top, *rest = module.split(".")
    homes = [".".join([top, *rest[: n + 1]]) for n in range(len(rest))] if top == __name__.split(".")[0] else []
    if isinstance(thing, type) and issubclass(thing, Component):
        homes.append(thing.home)
    shown = any(
        thing.__name__ in getattr(sys.modules.get(home), "__all__", ())
        and getattr(sys.modules[home], thing.__name__, None) is thing
        for home in homes
    )
    return thing.__name__ if shown else f"{module}:{thing.__qualname__}"


def kind_of(value: Any, hint: Any) -> str:
    """The kind of a component, a choice or a function: its name among the kinds of the type `hint`, or `kind_name`."""
    thing = type(value) if isinstance(value, Component) else function_of(value)
    return next((n for n, kind in kinds_of(hint, items=False).items() if kind is thing), kind_name(thing))


def plain(hint: Any) -> Any:
    """A type without its annotations and without None."""
    others = [member for member in members(hint) if member is not type(None)]
    return others[0] if len(others) == 1 else hint


def _shown(home: str) -> dict[str, Any]:
    """The names in the `__all__` of a module, with what they name."""
    module = importlib.import_module(home)
    return {name: getattr(module, name) for name in module.__all__}


def _expressible(hint: Any) -> bool:
    """Whether JSON can express every value of a type."""
    origin, args = get_origin(hint), get_args(hint)
    if hint in (int, float, str, bool, None, type(None)):
        return True
    if origin is Annotated:
        return choices_of(hint) is not None or _expressible(args[0])
    if origin is Literal:
        return True
    if origin in (Union, types.UnionType, tuple, dict):
        return all(_expressible(arg) for arg in args if arg is not ...)
    return isinstance(hint, type) and (issubclass(hint, Component) or _is_settings(hint))


def _expressed(hint: Any) -> Any:
    """A type without those members of a union that JSON cannot express."""
    if get_origin(hint) in (Union, types.UnionType):
        members = tuple(member for member in get_args(hint) if _expressible(member))
        if members and members != (type(None),):
            return Union[members]  # noqa: UP007  the members are not known before
    return hint


def _is_settings(hint: Any) -> bool:
    # A dataclass that is compared by identity, such as a process, is an object that computes and no setting.
    parameters = getattr(hint, "__dataclass_params__", None)
    if not isinstance(hint, type) or parameters is None or not parameters.eq:
        return False
    options = settings_of(hint).values()
    return bool(options) and all(_expressible(option.hint) for option in options)
