"""Opened data sets (`Examples`) and sets in memory."""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from jaxtyping import Int32, Shaped

from jaxdiff.checks import message, require

CHUNK = 512  # records that one thread of `in_memory` reads at a time


class Source(Protocol):
    """Random access to records: `source[i] -> {"image": array, "label": int}`; an unlabelled set has no `label`.

    A source may also have `__getitems__(indices)`, if it reads many records at once faster than one by one.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Mapping[str, Any]: ...


@dataclass(frozen=True, eq=False)
class Examples:
    """An opened data set.

    Attributes:
      source: the records, by index. Several threads may read it at once.
      shape: shape of one example: `(height, width, channels)` for images, `(2,)` for points in the plane.
      num_classes: number of classes; labels are 0 to num_classes - 1. 0 for an unlabelled set.
      class_names: the names of the classes in the order of their labels; empty if the classes have no names.
    """

    source: Source
    shape: tuple[int, ...]
    num_classes: int = 0
    class_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.source)


def read_records(source: Source, indices: Sequence[int]) -> Sequence[Mapping[str, Any]]:
    """The records at `indices`, read all at once if the source can do so."""
    many = getattr(source, "__getitems__", None)
    return many(indices) if many else [source[i] for i in indices]


@dataclass(frozen=True, eq=False)
class ArraySource:
    """Records in memory: uint8 images or float32 values `x` `[n, *event]`, and labels `[n]` or None."""

    x: Shaped[np.ndarray, " n *event"]
    labels: Int32[np.ndarray, " n"] | None

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int, /) -> dict[str, Any]:
        record: dict[str, Any] = {"image": self.x[index]}
        if self.labels is not None:
            record["label"] = int(self.labels[index])
        return record


def from_arrays(x: Any, labels: Any = None, class_names: Sequence[str] = ()) -> Examples:
    """Makes a data set of arrays in memory.

    Args:
      x: uint8 images `[n, height, width, channels]`; or floating-point values `[n, *event]` of any event shape. Values
        are converted to float32 and not scaled.
      labels: integers `[n]` from 0, or None.
      class_names: the names of the classes. Without names there are `max(labels) + 1` classes.

    Raises:
      TypeError: `x` is neither uint8 nor floating-point, or `labels` are not integers.
      ValueError: shapes do not fit, labels are out of range, `x` is empty or holds values that are not finite.
    """
    x = np.asarray(x)
    if x.dtype == np.uint8:
        require(x.ndim == 4, "x.shape", x.shape, "[n, height, width, channels] for uint8 images")
    elif np.issubdtype(x.dtype, np.floating):
        require(x.ndim >= 2, "x.shape", x.shape, "[n, *event] with at least one event axis")
        require(np.isfinite(x).all(), "x", np.nan, "finite numbers")
        x = x.astype(np.float32)
    else:
        raise TypeError(message("x.dtype", x.dtype, "uint8 and floating-point types"))
    require(0 not in x.shape, "x.shape", x.shape, "shapes without a zero")
    x = np.ascontiguousarray(x)

    if labels is None:
        require(not class_names, "class_names", tuple(class_names), "() without labels")
        return Examples(ArraySource(x, None), x.shape[1:])
    labels = np.asarray(labels)
    require(np.issubdtype(labels.dtype, np.integer), "labels.dtype", labels.dtype, "integer types", TypeError)
    require(labels.shape == x.shape[:1], "labels.shape", labels.shape, f"{x.shape[:1]}, one label for each of x")
    num_classes = len(class_names) or int(labels.max()) + 1
    require(labels.min() >= 0, "labels.min()", labels.min(), "integers of at least 0")
    require(labels.max() < num_classes, "labels.max()", labels.max(), f"integers of at most {num_classes - 1}")
    source = ArraySource(x, np.ascontiguousarray(labels, np.int32))
    return Examples(source, x.shape[1:], num_classes, tuple(class_names))


def in_memory(examples: Examples) -> Examples:
    """Reads and decodes the whole set once, in threads, so that no training step waits for decoding.

    The set must fit into memory: CIFAR-10's 50,000 images take 150 MB. A set that is in memory already is returned as
    it is.

    Raises:
      ValueError: a record cannot be read, or does not have the shape `examples.shape`.
    """
    source, n = examples.source, len(examples)
    if isinstance(source, ArraySource):
        return examples
    x = np.empty((n, *examples.shape), np.uint8 if np.asarray(source[0]["image"]).dtype == np.uint8 else np.float32)
    labels = np.empty(n, np.int32) if examples.num_classes else None

    def fill(start: int) -> None:
        indices = range(start, min(start + CHUNK, n))
        for i, record in zip(indices, read_records(source, indices), strict=True):
            shape = np.shape(record["image"])
            require(shape == examples.shape, f"shape of record {i}", shape, f"{examples.shape}")
            x[i] = record["image"]
            if labels is not None:
                labels[i] = record["label"]

    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        list(pool.map(fill, range(0, n, CHUNK)))  # `list` raises the errors of the threads
    return Examples(ArraySource(x, labels), examples.shape, examples.num_classes, examples.class_names)
