"""Settings that JSON cannot name: objects of the user's own, of which a file keeps a fingerprint.

The fingerprint of code covers its source without comments and formatting, its defaults, the variables that it closes
over, and the user's functions, classes and plain values that it refers to by a global name. Installed code goes by its
name and the variables that it closes over. Arrays and other values go by their contents. So the same program has the
same fingerprint in every process.
"""

import ast
import contextlib
import dataclasses
import functools
import hashlib
import inspect
import re
import sys
import sysconfig
import textwrap
import types
from collections.abc import Mapping
from typing import Any

from jaxdiff.components.declared import kind_name

OPAQUE = "opaque"
_PLAIN = (type(None), bool, int, float, complex, str, bytes)
_INSTALLED = tuple({sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")})
# Fields of Linen modules that say where a module is used, and not what it is.
_LINEN = {"parent", "name", "scope"}


class Opaque:
    """The base of components that hold an object of the user's own. Their JSON is a fingerprint of the object."""

    @property
    def held(self) -> Any:
        """The object."""
        raise NotImplementedError


def opaque_json(value: Opaque) -> dict[str, str]:
    """The JSON of an opaque setting: the kind `opaque`, the name of the object for people, and its fingerprint."""
    held = value.held
    named = held if isinstance(held, type | types.FunctionType) else type(held)
    return {"kind": OPAQUE, "name": kind_name(named), "fingerprint": fingerprint(held)}


def is_opaque(tree: Any) -> bool:
    """Whether JSON is that of an opaque setting."""
    return isinstance(tree, Mapping) and tree.get("kind") == OPAQUE


def fingerprint(value: Any) -> str:
    """A checksum of an object, 32 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=16)
    for part in _parts(value, {}):
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()


def _parts(value: Any, seen: dict[int, Any]) -> Any:
    """The bytes that an object consists of, for the checksum. `seen` holds the objects so far, to end cycles."""
    if isinstance(value, _PLAIN):
        yield f"{type(value).__name__} {value!r}".encode()
        return
    if id(value) in seen:
        yield b"seen"
        return
    seen[id(value)] = value
    yield type(value).__name__.encode()
    if isinstance(value, types.ModuleType):
        yield value.__name__.encode()
    elif isinstance(value, type):
        yield from _parts_of_class(value, seen)
    elif isinstance(value, types.FunctionType):
        yield from _parts_of_function(value, seen)
    elif isinstance(value, types.MethodType):
        yield from _all([value.__func__, value.__self__], seen)
    elif isinstance(value, functools.partial):
        yield from _all([value.func, value.args, value.keywords], seen)
    elif isinstance(value, Mapping):
        for key, item in sorted(value.items(), key=lambda pair: repr(pair[0])):
            yield from _all([key, item], seen)
    elif isinstance(value, set | frozenset):
        yield from _all(sorted(value, key=repr), seen)
    elif isinstance(value, tuple | list):
        yield from _all(value, seen)
    elif hasattr(value, "dtype") and hasattr(value, "__array__") and hasattr(value, "shape"):
        yield f"{value.dtype} {value.shape}".encode()
        with contextlib.suppress(TypeError):  # of keys and of shapes without numbers
            yield value.__array__().tobytes()
    elif (name := _named(value)) is not None:
        yield name.encode()
    elif dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value) if field.name not in _LINEN]
        yield from _all([type(value), {name: getattr(value, name, None) for name in names}], seen)
    elif hasattr(value, "__wrapped__"):  # of `jax.jit` and other decorators
        yield from _parts(value.__wrapped__, seen)
    elif hasattr(value, "__dict__"):
        yield from _all([type(value), vars(value)], seen)
    else:
        yield re.sub(r"0x[0-9a-f]+", "", repr(value)).encode()


def _all(values: Any, seen: dict[int, Any]) -> Any:
    yield len(values).to_bytes(8, "little")
    for value in values:
        yield from _parts(value, seen)


def _parts_of_class(cls: type, seen: dict[int, Any]) -> Any:
    yield f"{cls.__module__}.{cls.__qualname__}".encode()
    if not _installed(cls):
        yield from _all(list(cls.__bases__), seen)
        own = {name: value for name, value in vars(cls).items() if _is_written(name, value)}
        yield from _parts(own, seen)


def _is_written(name: str, value: Any) -> bool:
    """Whether an attribute of a class is one that its author wrote, or a default of a field."""
    functions = (types.FunctionType, classmethod, staticmethod, property, functools.cached_property)
    inside = getattr(value, "__wrapped__", getattr(value, "__func__", getattr(value, "fget", value)))
    if isinstance(value, functions) or isinstance(inside, types.FunctionType):
        return not _installed(inside) and not getattr(inside, "__code__", _NOWHERE).co_filename.startswith("<")
    return isinstance(value, _PLAIN) and not name.startswith("__")


_NOWHERE = compile("", "<nowhere>", "exec")


def _parts_of_function(function: types.FunctionType, seen: dict[int, Any]) -> Any:
    yield f"{function.__module__}.{function.__qualname__}".encode()
    for cell in function.__closure__ or ():  # which holds the options of an installed function, such as a rate
        with contextlib.suppress(ValueError):  # of a variable that is not set yet
            yield from _parts(cell.cell_contents, seen)
    if _installed(function):
        return
    yield _source(function).encode()
    yield from _all([function.__defaults__, function.__kwdefaults__], seen)
    for name in sorted(_names(function.__code__)):
        # Other objects, such as data and models, may change without a change of the program.
        value = function.__globals__.get(name)
        if value is not None and isinstance(value, (*_PLAIN, tuple, types.FunctionType, type)):
            yield name.encode()
            yield from _parts(value, seen)


def _names(code: types.CodeType) -> set[str]:
    """The global names that code refers to, and the code inside it."""
    inner = [const for const in code.co_consts if isinstance(const, types.CodeType)]
    return set(code.co_names).union(*map(_names, inner))


def _source(function: types.FunctionType) -> str:
    """The source of a function without comments and formatting; its instructions if there is no source."""
    code = function.__code__
    try:
        text = textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError):
        return code.co_code.hex() + repr([const for const in code.co_consts if isinstance(const, _PLAIN)])
    with contextlib.suppress(SyntaxError):  # of a part of an expression
        text = ast.unparse(ast.parse(text))
    # Two functions on one line have one source.
    return f"{text} {code.co_names} {code.co_varnames}"


def _installed(thing: Any) -> bool:
    """Whether code belongs to an installed package or to Python."""
    module = sys.modules.get(getattr(thing, "__module__", None) or "")
    file = getattr(module, "__file__", None)
    if module is None or module.__name__ == "__main__":
        return False
    top = module.__name__.partition(".")[0]
    return file is None or top == __name__.partition(".")[0] or file.startswith(_INSTALLED)


def _named(value: Any) -> str | None:
    """The name of an object of installed code that its module shows, such as `jax.nn.relu`; None for other objects."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if isinstance(module, str) and isinstance(name, str) and _installed(value):
        return f"{module}.{name}"
    return None
