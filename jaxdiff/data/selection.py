"""Selections: the entries of a batch, read from the fields of records; and examples that training never sees."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxdiff.checks import did_you_mean, integer, message, one_line, require
from jaxdiff.data.checksums import checksum, settings_text
from jaxdiff.data.fields import Field
from jaxdiff.data.sources import ArraySource, Examples, Source, entry_of, identity_of, in_memory, part, read_records


@dataclass(frozen=True)
class Entry:
    """One entry of a batch, and how it is read from a record.

    Attributes:
      field: the field of the record.
      read: maps the value of the field to that of the entry, on the host. It is deterministic, and worker processes get
        a pickled copy. None for the value itself.
      spec: the field that the entry then is. Without `read` it is that of the record.
    """

    field: str
    read: Callable[[Any], Any] | None
    spec: Field


@dataclass(frozen=True, eq=False)
class Selected:
    """Records of another source, with other entries."""

    source: Source
    entries: dict[str, Entry]

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int, /) -> dict[str, Any]:
        return self._read(index, self.source[index])

    def __getitems__(self, indices: Sequence[int], /) -> list[dict[str, Any]]:
        """Reads many records at once."""
        records = read_records(self.source, indices)
        return [self._read(index, record) for index, record in zip(indices, records, strict=True)]

    def identity(self) -> str:
        """A checksum of the source, and of the entries. Functions that read them do not count."""
        entries = [(name, e.field, settings_text(e.spec), e.read is None) for name, e in self.entries.items()]
        return checksum(identity_of(self.source), str(sorted(entries)))

    def _read(self, index: int, record: Mapping[str, Any]) -> dict[str, Any]:
        found = {}
        for name, entry in self.entries.items():
            value = entry_of(record, entry.field, index)
            if entry.read is not None:
                try:
                    value = entry.read(value)
                except Exception as error:  # of any function of the user's
                    where = f"field {entry.field!r} of record {index} cannot be read as {name!r}"
                    raise ValueError(f"{where}: {one_line(error)}") from error
            found[name] = value
        return found


def select(examples: Examples, entries: Mapping[str, Entry]) -> Examples:
    """The same examples with exactly these entries, each read from a field.

    A set in memory stays in memory: an entry with a `read` is read at once, and any other shares the array of its
    field. Of all other sets, entries are read with their records, in the threads or processes that read these.

    Args:
      examples: the data set.
      entries: the entries by name.

    Raises:
      ValueError: there is no entry, an entry's field does not exist, or a value cannot be read.
    """
    require(entries, "entries", dict(entries), "at least one entry")
    for name, entry in entries.items():
        if entry.field not in examples.fields:
            allowed = f"fields of the data: {', '.join(examples.fields)}"
            near = did_you_mean(entry.field, examples.fields)
            raise ValueError(message(f"field of the entry {name!r}", entry.field, allowed) + near)
    # An entry that is not read is that of the record, whatever the fields are after augmentations.
    own = {
        name: entry if entry.read is not None else Entry(entry.field, None, examples.fields[entry.field])
        for name, entry in entries.items()
    }
    fields = {name: entry.spec for name, entry in own.items()}
    selected = Selected(examples.source, own)
    if not isinstance(examples.source, ArraySource):
        return Examples(selected, fields)
    columns = {name: examples.source.columns[entry.field] for name, entry in own.items() if entry.read is None}
    read = {name: entry for name, entry in own.items() if entry.read is not None}
    if read:
        source = in_memory(Examples(Selected(examples.source, read), {name: fields[name] for name in read})).source
        assert isinstance(source, ArraySource)
        columns |= source.columns
    return Examples(ArraySource({name: columns[name] for name in own}, origin=selected), fields)


def held_out(examples: Examples, count: int) -> tuple[Examples, Examples]:
    """Splits a set into a part for training and a part of `count` examples that training never sees.

    The split is pseudo-random, and depends on the number of examples and on `count` alone. A larger `count` holds out
    the same examples and others. Both parts keep the order of the set, and a set in memory stays in memory.

    Returns:
      The examples of training, and the examples that are held out.

    Raises:
      ValueError: `count` is not an integer from 1 to the number of examples less one.
    """
    n = len(examples)
    integer("count", count, least=1, most=n - 1)
    order = np.random.default_rng(0).permutation(n)
    return part(examples, np.sort(order[count:])), part(examples, np.sort(order[:count]))
