"""The entries of a `config.json` of diffusers, and the errors about those that we do not know."""

from collections.abc import Collection, Mapping
from typing import Any

from jaxdiff.checks import message, require

_LARGEST = 1e30
MOST = 2**20
"""The largest length in a configuration. No model has a larger one, and shapes of it are numbers that NumPy has."""


LARGEST_PICTURE = 2**14
"""The most pixels to a side of a picture."""


class Settings:
    """The entries of a configuration. Every entry that changes the network has to be asked for.

    Args:
      config: the entries.
      where: the name of the file, for errors.
    """

    def __init__(self, config: Mapping[str, Any], where: str = "config.json") -> None:
        self._config, self._where = config, where
        self._left = {name for name in config if not name.startswith("_")}

    def get(self, name: str, default: Any = None) -> Any:
        """The value of an entry; the default if it is absent."""
        self._left.discard(name)
        return self._config.get(name, default)

    def known(self, name: str, allowed: Collection[Any], default: Any) -> Any:
        """The value of an entry that may have a few values.

        Raises:
          ValueError: it has another value.
        """
        value = self.get(name, default)
        names = ", ".join(map(repr, allowed))
        require(value in allowed, f"{self._where}: {name}", value, names)
        return value

    def lengths(self, name: str, default: Any = ()) -> tuple[int, ...]:
        """An entry that is a list of positive integers.

        Raises:
          ValueError: it is something else.
        """
        value = self.get(name, default)
        good = isinstance(value, list | tuple) and all(type(one) is int and 0 < one <= MOST for one in value)
        require(good, f"{self._where}: {name}", value, f"lists of integers from 1 to {MOST}")
        return tuple(value)

    def length(self, name: str, default: int | None = None) -> int:
        """An entry that is a positive integer of at most `MOST`.

        Raises:
          ValueError: it is something else.
        """
        value = self.get(name, default)
        good = type(value) is int and 0 < value <= MOST
        require(good, f"{self._where}: {name}", value, f"integers from 1 to {MOST}")
        found: int = value
        return found

    def number(self, name: str, default: float) -> float:
        """An entry that is a finite number.

        Raises:
          ValueError: it is something else.
        """
        value = self.get(name, default)
        good = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST
        require(good, f"{self._where}: {name}", value, f"numbers from -{_LARGEST:g} to {_LARGEST:g}")
        return float(value)

    def kinds(self, name: str, default: Any = ()) -> list[str]:
        """An entry that is a list of words.

        Raises:
          ValueError: it is something else.
        """
        value = self.get(name, default)
        good = isinstance(value, list | tuple) and all(isinstance(one, str) for one in value)
        require(good, f"{self._where}: {name}", value, "lists of words")
        return list(value)

    def refuse(self, name: str, allowed: str) -> ValueError:
        """The error about a value."""
        return ValueError(message(f"{self._where}: {name}", self._config.get(name), allowed))

    def finish(self, ignored: Collection[str] = ()) -> None:
        """Raises a ValueError if an entry was not asked for and is not one of `ignored`: it might change the network.

        Entries that are None, False or empty are off.
        """
        odd = sorted(name for name in self._left - {*ignored} if self._config[name] not in (None, False, [], {}, ""))
        if odd:
            raise self.refuse(odd[0], "null: our networks have no such setting")
