"""Checks of arguments, in one grammar of errors: `name = value; allowed are ...`.

A shape or a type is reported in the same way: `x.shape = (3,); allowed are [batch, *event]`. A value that JAX is
tracing is not known yet and must not be checked: the caller leaves the check out.
"""

import difflib
import inspect
import math
import numbers
from collections.abc import Callable, Iterable
from typing import Any


def message(name: str, value: Any, allowed: str) -> str:
    """The text of an error about an argument.

    Args:
      name: the argument as the user knows it: `steps`, `x.shape`, `--train.steps`.
      value: the value that was given. A string is shown in quotes, and long values are cut.
      allowed: the values that are allowed, as the end of the sentence "allowed are ...".
    """
    shown = repr(value) if isinstance(value, str) else " ".join(str(value).split())  # arrays take several lines
    return f"{name} = {shortened(shown)}; allowed are {allowed}"


def require(good: Any, name: str, value: Any, allowed: str, kind: type[Exception] = ValueError) -> None:
    """Raises `kind(message(name, value, allowed))` unless `good` is true."""
    if not good:
        raise kind(message(name, value, allowed))


def integer(name: str, value: Any, least: int = 1, most: int | None = None) -> None:
    """Raises a ValueError unless `value` is an integer from `least` to `most`. NumPy integers count; bools do not."""
    good = isinstance(value, numbers.Integral) and not isinstance(value, bool) and int(value) >= least
    allowed = f"integers of at least {least}" if most is None else f"integers from {least} to {most}"
    require(good and (most is None or value <= most), name, value, allowed)


def positive(name: str, value: Any) -> None:
    """Raises a ValueError unless `value` is a finite number above 0."""
    require(_is_number(value) and 0 < value < math.inf, name, value, "finite numbers above 0")


def not_negative(name: str, value: Any) -> None:
    """Raises a ValueError unless `value` is a finite number of at least 0."""
    require(_is_number(value) and 0 <= value < math.inf, name, value, "finite numbers of at least 0")


def fraction(name: str, value: Any) -> None:
    """Raises a ValueError unless `value` is a number from 0 to 1."""
    require(_is_number(value) and 0 <= value <= 1, name, value, "numbers from 0 to 1")


def one_of(name: str, value: Any, choices: Iterable[Any]) -> None:
    """Raises a ValueError unless `value` is one of `choices`. The error suggests the nearest choice."""
    choices = list(choices)
    if value not in choices:
        near = did_you_mean(value, choices) if isinstance(value, str) else ""
        raise ValueError(message(name, value, ", ".join(map(repr, choices))) + near)


def takes(function: Callable[..., Any], count: int) -> bool:
    """Whether a function can be called with `count` positional arguments."""
    try:
        inspect.signature(function).bind(*range(count))
    except TypeError:
        return False
    return True


def did_you_mean(word: str, words: Iterable[Any]) -> str:
    """Returns `; did you mean 'nearest'?`, or an empty string if no word is similar enough to help.

    A word is also compared with the last part of each dotted word, so that `--steps` finds `--train.steps`. Letter
    case, leading hyphens, and the difference between `_` and `-` do not count.
    """

    def ratio(other: str) -> float:
        plain = _plain(other)
        candidates = (plain, plain.rpartition(".")[2])
        return max(difflib.SequenceMatcher(None, _plain(word)[:100], candidate).ratio() for candidate in candidates)

    nearest = max(sorted(filter(None, map(str, words))), key=ratio, default=None)
    # Below this ratio of matching characters a suggestion is more likely to mislead than to help.
    return f"; did you mean {nearest!r}?" if nearest is not None and ratio(nearest) >= 0.6 else ""


def one_line(error: BaseException, limit: int = 300) -> str:
    """The text of an error on one line, cut after `limit` characters; the name of its type if it has no text."""
    return shortened(" ".join(str(error).split()) or type(error).__name__, limit)


def shortened(text: str, limit: int = 300) -> str:
    """A text, cut after `limit` characters. What a file or a command line holds may be of any length."""
    return text if len(text) <= limit else text[:limit] + "..."


def _is_number(value: Any) -> bool:
    """Whether `value` can be compared with numbers. A string, None or a bool in the place of a number cannot."""
    return not isinstance(value, str | bool) and value is not None


def _plain(spelling: str) -> str:
    return spelling.lower().replace("_", "-").lstrip("-")
