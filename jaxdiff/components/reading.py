"""From JSON to settings."""

import dataclasses
import functools
import inspect
import sys
import types
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from jaxdiff.checks import did_you_mean, message
from jaxdiff.components.component import Component, Table, python_value
from jaxdiff.components.declared import Choice, Choices, Option, choices_of, kinds_of, options_of, settings_of
from jaxdiff.components.opaque import Opaque, is_opaque
from jaxdiff.components.paths import at, join


def choose(function: Callable[..., Any], **options: Any) -> Choice:
    """A function with options: `choose(solvers.ddim, eta=0.5)`.

    The choice keeps all options, the defaults too, so that a later default does not change an old run.

    Args:
      function: the function; or a `functools.partial` of it, whose named arguments are options too.
      options: the options by name. An option that is a function may have options of its own, by `choose`.

    Raises:
      TypeError: `function` is a `functools.partial` with positional arguments.
      ValueError: an option is unknown, or not of its type.
    """
    function, held = _parts_of(function)
    known = options_of(function)
    return _chosen(function, known, {**held, **options}, getattr(function, "__name__", ""))


def from_json(hint: Any, tree: Any, path: str = "") -> Any:
    """The setting of type `hint` that `to_json` wrote, or a setting that is made already.

    Args:
      hint: the type: a class, a union, a literal, a tuple, a `dict[str, ...]`, or a function by `Choices`.
      tree: JSON values. NumPy's numbers and arrays count as numbers and lists.
      path: the path of the setting in error messages.

    Raises:
      ValueError: a setting is unknown, of the wrong type or refused by its owner. The error is one line that begins
        with the path of the setting.
    """
    origin, args, tree = get_origin(hint), get_args(hint), python_value(tree)
    if is_opaque(tree):
        raise ValueError(f"{path} is an object of the user's own, {tree.get('name')}, which a file cannot hold")
    if origin is Annotated:
        choices = choices_of(hint)
        return from_json(args[0], tree, path) if choices is None else _choice(choices, args[0], tree, path)
    if origin in (Union, types.UnionType):
        return _member(args, tree, path)
    if origin is Literal:
        if tree in args and type(tree) in map(type, args):
            return tree
        near = did_you_mean(tree, args) if isinstance(tree, str) else ""
        raise ValueError(message(path, tree, ", ".join(map(repr, args))) + near)
    if origin is tuple:
        return _tuple(args, tree, path)
    if origin is dict:
        if not isinstance(tree, Mapping):
            raise ValueError(message(path, tree, "mappings of names"))
        return Table({name: from_json(args[1], item, join(path, name)) for name, item in tree.items()})
    if isinstance(hint, type) and (issubclass(hint, Component) or dataclasses.is_dataclass(hint)):
        return _component(hint, tree, path)
    if hint is float and tree in ("inf", "-inf"):
        return float(tree)
    kinds = {float: (int, float), type(None): (type(None),), None: (type(None),)}.get(hint, (hint,))
    if isinstance(tree, kinds) and (hint is bool or not isinstance(tree, bool)) and tree == tree:
        return float(tree) if hint is float else tree
    allowed = {int: "integers", float: "numbers", str: "text", bool: "true and false", type(None): "none"}
    raise ValueError(message(path, tree, allowed.get(hint, f"values of type {getattr(hint, '__name__', hint)}")))


def _choice(choices: Choices, hint: Any, tree: Any, path: str) -> Any:
    if isinstance(tree, Choice | functools.partial) or inspect.isfunction(tree):
        function, options = _parts_of(tree)
        members = choices.members()
        if not choices.fits(function) or not (function in members.values() or _returns(function, hint)):
            name = getattr(function, "__name__", str(function))
            like = "functions with such arguments, annotated with the same result"
            raise ValueError(message(join(path, "kind"), name, f"{', '.join(members)}, and {like}"))
    else:
        if not isinstance(tree, Mapping) or not isinstance(tree.get("kind"), str):
            raise ValueError(message(path, tree, "objects with a 'kind'"))
        function = _find(tree["kind"], choices.members(), lambda f: _returns(f, hint) and choices.fits(f), path)
        options = {name: value for name, value in tree.items() if name != "kind"}
    known = options_of(function)
    # `choose` does not know what the caller will give, and keeps the defaults of such arguments too.
    options = {n: v for n, v in options.items() if n not in choices.given or n not in known or v != known[n].default}
    known = {name: option for name, option in known.items() if name not in choices.given}
    made = _chosen(function, known, options, path)
    missing = [name for name in known if name not in dict(made.options)]
    if missing:
        raise ValueError(f"{join(path, missing[0])} is missing; {function.__name__} needs it")
    return made


def _returns(function: Any, hint: Any) -> bool:
    """Whether a function is declared to return what a setting of type `hint`, a `Callable[..., result]`, has to return.

    A file may name any function of any imported module, also one that deletes or runs files. The annotation of its
    result tells a function that is meant for the setting.
    """
    wanted = (get_args(hint) or (Any,))[-1]
    if not callable(function):
        return False
    try:
        found = function if isinstance(function, type) else get_type_hints(function, include_extras=True).get("return")
    except (TypeError, NameError, AttributeError):  # annotations that cannot be evaluated
        return False
    return wanted in (Any, found) or (
        isinstance(found, type) and isinstance(wanted, type) and issubclass(found, wanted)
    )


def _parts_of(function: Any) -> tuple[Callable[..., Any], dict[str, Any]]:
    """A function and the options that a choice or a `functools.partial` of it holds."""
    if isinstance(function, Choice):
        return function.function, dict(function.options)
    if isinstance(function, functools.partial):
        if function.args:
            raise TypeError(message("positional arguments of a partial", function.args, "named arguments"))
        inner, options = _parts_of(function.func)
        return inner, {**options, **function.keywords}
    return function, {}


def _chosen(function: Callable[..., Any], known: Mapping[str, Option], given: Mapping[str, Any], path: str) -> Choice:
    """The choice of a function with some of its options; the defaults stand for the others, in the declared order."""
    hints = {name: option.hint for name, option in known.items()}
    defaults = {name: o.default for name, o in known.items() if o.default is not inspect.Parameter.empty}
    made = _decoded(hints, {**defaults, **given}, path)
    return Choice(function, tuple((name, made[name]) for name in known if name in made))


def _component(hint: type, tree: Any, path: str) -> Any:
    if isinstance(tree, hint | Opaque):
        return tree
    if not isinstance(tree, Mapping):
        raise ValueError(message(path, tree, f"objects with the settings of {hint.__name__}"))
    cls, values = hint, dict(tree)
    if issubclass(hint, Component):
        kind = values.pop("kind", None)
        if not isinstance(kind, str):
            raise ValueError(f"{join(path, 'kind')} is missing; allowed are {', '.join(kinds_of(hint))}")
        cls = _find(kind, kinds_of(hint), lambda v: isinstance(v, type) and issubclass(v, hint), path)
    known = settings_of(cls)
    given = _decoded({name: option.hint for name, option in known.items()}, values, path)
    missing = [n for n, o in known.items() if o.default is inspect.Parameter.empty and n not in given]
    if missing:
        raise ValueError(f"{join(path, missing[0])} is missing; {cls.__name__} needs it")
    with at(path):
        return cls(**given)


def _member(args: tuple[Any, ...], tree: Any, path: str) -> Any:
    """A setting whose type is a union: the first member that takes it."""
    errors = []
    for member in sorted(args, key=lambda a: a is not type(None)):
        try:
            return from_json(member, tree, path)
        except ValueError as error:
            errors.append((member, error))
    # None was refused, so the reader wants to know why the others refused. A member that refused a part of the tree
    # has come the furthest, and says the most.
    others = [error for member, error in errors if member is not type(None)]
    inner = [error for error in others if not str(error).startswith((f"{path} =", f"{path}:"))]
    if len(inner) == 1:
        raise inner[0]
    if len(others) == 1:
        text = str(others[0])
        raise ValueError(f"{text}, and none" if text.startswith(f"{path} = ") and "did you mean" not in text else text)
    allowed = " and ".join(str(error).rpartition("allowed are ")[2] for _, error in errors)
    raise ValueError(message(path, tree, allowed))


def _tuple(args: tuple[Any, ...], tree: Any, path: str) -> tuple[Any, ...]:
    if isinstance(tree, str) or not isinstance(tree, list | tuple):
        raise ValueError(message(path, tree, "lists"))
    hints = [args[0]] * len(tree) if args[1:] == (...,) else list(args)
    if len(hints) != len(tree):
        raise ValueError(message(path, tree, f"lists of {len(hints)} values"))
    return tuple(from_json(h, item, join(path, str(i))) for i, (h, item) in enumerate(zip(hints, tree, strict=True)))


def _decoded(hints: Mapping[str, Any], given: Mapping[str, Any], path: str) -> dict[str, Any]:
    for name in given:
        if name not in hints:
            allowed = f"there are {', '.join(hints) or 'none'}"
            raise ValueError(f"{join(path, name)} is unknown; {allowed}{did_you_mean(name, hints)}")
    return {name: from_json(hints[name], value, join(path, name)) for name, value in given.items()}


def _find(kind: str, members: Mapping[str, Any], fits: Callable[[Any], bool], path: str) -> Any:
    module, colon, name = kind.partition(":")
    where = join(path, "kind")
    if not colon:
        if kind in members:
            return members[kind]
        raise ValueError(message(where, kind, f"{', '.join(members)}, and MODULE:NAME") + did_you_mean(kind, members))
    if module not in sys.modules:
        raise ValueError(f"{where} = {kind!r}: {module} is not imported, and reading settings imports nothing")
    found = vars(sys.modules[module]).get(name)  # `getattr` would run the module's own `__getattr__`
    if found is None or not fits(found):
        like = f"names in {module} of the same kind as {', '.join(members)}"
        raise ValueError(message(where, kind, f"{like}; a function has to be annotated with the same result"))
    return found
