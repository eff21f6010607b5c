"""Dotted paths of settings, in errors too."""

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def at(path: str) -> Iterator[None]:
    """Puts `path` before the text of a ValueError or TypeError: `steps = 0; ...` becomes `path.steps = 0; ...`.

    The error becomes a ValueError.
    """
    try:
        yield
    except (ValueError, TypeError) as error:
        raise ValueError(_located(path, str(error))) from error


def join(path: str, name: str) -> str:
    """The path of a setting below another."""
    return f"{path}.{name}" if path else name


def _located(path: str, text: str) -> str:
    if text == path or text.startswith((f"{path} ", f"{path}.", f"{path}:", f"{path}[")) or not path:
        return text
    name = text.split(" ", 1)[0]
    plain = name.replace(".", "").replace("_", "").replace("[", "").replace("]", "").replace("'", "")
    return f"{path}.{text}" if plain.isalnum() and text[len(name) : len(name) + 3] == " = " else f"{path}: {text}"
