"""Opened data sets (`Examples`): records of named entries, by index."""

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
from jaxtyping import Int64

from jaxdiff.checks import message, require
from jaxdiff.data.checksums import Checksum, checksum, settings_text, spaced
from jaxdiff.data.fields import Field

Column = np.ndarray | tuple[str, ...]
"""One entry of many records: an array `[n, *shape]`, or n texts."""
CHUNK = 512  # records that one thread of `in_memory` reads at a time


class Source(Protocol):
    """Random access to records: `source[i]` is a mapping from names to arrays, numbers or text.

    A source may also have `__getitems__(indices)`, if it reads many records at once faster than one by one; and
    `identity()`, a checksum of its records that does not depend on the place of the data. Without it the checksum is
    made of up to 10,000 records. Worker processes get a pickled copy of the source.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Mapping[str, Any]: ...


@dataclasses.dataclass(frozen=True, eq=False)
class Examples:
    """An opened data set.

    Attributes:
      source: the records, by index. Several threads may read it at once.
      fields: the entries of every record, by name.
    """

    source: Source
    fields: dict[str, Field]

    def __len__(self) -> int:
        return len(self.source)

    def identity(self) -> str:
        """A checksum of the examples, 32 hexadecimal digits.

        It depends on the fields and on the data, and neither on their path nor on their place, in memory or on disk.
        """
        known = [(name, settings_text(field)) for name, field in sorted(self.fields.items())]
        return checksum(str(known), identity_of(self.source))


def identity_of(source: Source) -> str:
    """The checksum of a source: its `identity()`, or a checksum of up to 10,000 of its records, evenly spaced."""
    if hasattr(source, "identity"):
        return str(source.identity())
    found = Checksum().add(len(source))
    chosen = spaced(len(source))
    for start in range(0, len(chosen), CHUNK):
        for record in read_records(source, chosen[start : start + CHUNK]):
            for name in sorted(record):
                value = record[name]
                found.add(name, value if isinstance(value, str | bytes) else np.asarray(value))
    return found.text()


def read_records(source: Source, indices: Sequence[int]) -> Sequence[Mapping[str, Any]]:
    """The records at `indices`, read all at once if the source can do so."""
    many = getattr(source, "__getitems__", None)
    return many(indices) if many else [source[i] for i in indices]


def read_columns(examples: Examples, indices: Int64[np.ndarray, " b"]) -> dict[str, Column]:
    """The records at `indices` as columns, by name.

    Raises:
      ValueError: a record cannot be read, lacks a field, holds an entry of another shape or type than its field, or a
        label that is no class.
    """
    source = examples.source
    if isinstance(source, ArraySource):
        return {name: _rows(source.columns[name], indices) for name in examples.fields}
    chosen = indices.tolist()
    records = read_records(source, chosen)
    found: dict[str, Column] = {}
    for name, field in examples.fields.items():
        if field.kind == "text":
            found[name] = tuple(str(entry_of(record, name, i)) for i, record in zip(chosen, records, strict=True))
            continue
        column = np.empty((len(chosen), *field.shape), field.dtype)
        for row, (i, record) in enumerate(zip(chosen, records, strict=True)):
            value = np.asarray(entry_of(record, name, i))
            if value.shape != field.shape:
                raise ValueError(message(f"shape of {name!r} of record {i}", value.shape, str(field.shape)))
            if not np.can_cast(value.dtype, column.dtype, "same_kind"):
                raise ValueError(message(f"type of {name!r} of record {i}", value.dtype, field.dtype))
            if field.kind == "label" and not 0 <= value < (field.classes or math.inf):
                allowed = f"integers from 0 to {field.classes - 1}" if field.classes else "integers of at least 0"
                raise ValueError(message(f"{name!r} of record {i}", value, allowed))
            column[row] = value
        found[name] = column
    return found


def entry_of(record: Mapping[str, Any], name: str, index: int) -> Any:
    """The entry `name` of a record. Raises a ValueError if there is none; `index` is that of the record."""
    if name not in record:
        raise ValueError(message(f"entries of record {index}", ", ".join(record), f"records with {name!r}"))
    return record[name]


def _rows(column: Column, indices: Int64[np.ndarray, " b"]) -> Column:
    return column[indices] if isinstance(column, np.ndarray) else tuple(column[i] for i in indices)


@dataclasses.dataclass(frozen=True, eq=False)
class ArraySource:
    """Records in memory.

    Attributes:
      columns: arrays `[n, *shape]` and sequences of n texts, by name.
      origin: the source whose records these are; None if there is no other.
    """

    columns: dict[str, Column]
    origin: Source | None = None

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, index: int, /) -> dict[str, Any]:
        return {name: column[index] for name, column in self.columns.items()}

    def identity(self) -> str:
        """The checksum of the origin; else of the names, types, shapes and elements of all columns."""
        if self.origin is not None:
            return identity_of(self.origin)
        found = Checksum()
        for name, column in sorted(self.columns.items()):
            found.add(name, len(column))
            found.add(*([column] if isinstance(column, np.ndarray) and column.dtype.kind != "O" else column))
        return found.text()


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """Some of the records of a source."""

    source: Source
    indices: Int64[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int, /) -> Mapping[str, Any]:
        return self.source[int(self.indices[index])]

    def __getitems__(self, indices: Sequence[int], /) -> Sequence[Mapping[str, Any]]:
        """The records at many indices."""
        return read_records(self.source, self.indices[np.asarray(indices, np.int64)].tolist())

    def identity(self) -> str:
        """A checksum of the whole source and of the chosen records."""
        return checksum(identity_of(self.source), self.indices)


def part(examples: Examples, indices: Int64[np.ndarray, " n"]) -> Examples:
    """The examples at `indices`. A set in memory stays in memory."""
    source = examples.source
    rows = Rows(source, np.asarray(indices, np.int64))
    if isinstance(source, ArraySource):
        columns = {name: _rows(column, rows.indices) for name, column in source.columns.items()}
        return Examples(ArraySource(columns, origin=rows), examples.fields)
    return Examples(rows, examples.fields)


def in_memory(examples: Examples) -> Examples:
    """Reads and decodes the whole set once, in threads, so that no training step waits for decoding.

    The set must fit into memory: CIFAR-10's 50,000 images take 150 MB. A set that is in memory already is returned as
    it is. The identity of the result is that of `examples`.

    Raises:
      ValueError: a record cannot be read, or holds an entry of another shape or type than its field.
    """
    n = len(examples)
    if isinstance(examples.source, ArraySource):
        return examples
    require(n > 0, "len(examples)", n, "integers of at least 1")
    arrays = {
        name: np.empty((n, *field.shape), field.dtype)
        for name, field in examples.fields.items()
        if field.kind != "text"
    }
    texts: dict[str, list[str]] = {name: [""] * n for name, field in examples.fields.items() if field.kind == "text"}

    def fill(start: int) -> None:
        indices = np.arange(start, min(start + CHUNK, n))
        for name, column in read_columns(examples, indices).items():
            if isinstance(column, np.ndarray):
                arrays[name][start : start + len(column)] = column
            else:
                texts[name][start : start + len(column)] = column

    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        list(pool.map(fill, range(0, n, CHUNK)))  # `list` raises the errors of the threads
    columns: dict[str, Column] = {
        name: arrays[name] if name in arrays else tuple(texts[name]) for name in examples.fields
    }
    return Examples(ArraySource(columns, origin=examples.source), examples.fields)
