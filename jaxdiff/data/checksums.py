"""Checksums of data: the identity of a data set, wherever it lies."""

import dataclasses
import hashlib
import json
import struct
from typing import Any

import numpy as np

from jaxdiff.components import python_value

MOST = 10_000
"""The largest number of records or files of a set whose bytes enter its checksum."""


class Checksum:
    """A BLAKE2b checksum of a sequence of parts. Each part is preceded by its length, so that no two sequences mix."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)

    def add(self, *parts: Any) -> "Checksum":
        """Adds bytes, text, integers, and arrays: with their type, their shape and their elements in C order."""
        for part in parts:
            if isinstance(part, np.ndarray):
                self.add(part.dtype.str, str(part.shape))
                self._hash.update(struct.pack("<Q", part.nbytes))
                self._hash.update(np.ascontiguousarray(part).reshape(-1).view(np.uint8).data)
            else:
                # Names of files need not be UTF-8. Python escapes their bytes, and here they are bytes again.
                raw = isinstance(part, bytes | bytearray | memoryview)
                data = bytes(part) if raw else str(part).encode(errors="surrogateescape")
                self._hash.update(struct.pack("<Q", len(data)))
                self._hash.update(data)
        return self

    def text(self) -> str:
        """The checksum of all parts so far, 32 hexadecimal digits."""
        return self._hash.hexdigest()


def checksum(*parts: Any) -> str:
    """The checksum of bytes, texts, integers and arrays, 32 hexadecimal digits."""
    return Checksum().add(*parts).text()


def settings_text(value: Any) -> str:
    """The attributes of a dataclass that do not have their defaults, so that a later attribute changes no checksum."""
    fields = [(field.name, getattr(value, field.name), field.default) for field in dataclasses.fields(value)]
    return json.dumps([(name, own) for name, own, default in fields if own != default], default=python_value)


def spaced(n: int, most: int = MOST) -> list[int]:
    """At most `most` of the integers from 0 to n - 1, evenly spaced, with the first and the last."""
    if n <= most:
        return list(range(n))
    return [i * (n - 1) // (most - 1) for i in range(most)]
