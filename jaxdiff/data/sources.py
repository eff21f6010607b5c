"""What an opened data set is, and the sets that lie in memory."""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from jaxtyping import Int32, Shaped

CHUNK = 512  # records that one thread of `in_memory` reads at a time


class Source(Protocol):
    """Random access: `source[i] -> {"image": array, "label": int}`, without `label` when the set is unlabelled.

    A source that reads many records at once faster than one by one may have `__getitems__(indices)` as well.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Mapping[str, Any]: ...


@dataclass(frozen=True, eq=False)
class Examples:
    """An opened data set.

    Attributes:
      source: the records, by index; may be read from several threads.
      shape: shape of one example: `(height, width, channels)` for images, `(2,)` for points in the plane.
      num_classes: number of classes, labels being 0 .. num_classes - 1; 0 when there are no labels.
      class_names: the classes' names in the order of their labels; empty when they have none.
    """

    source: Source
    shape: tuple[int, ...]
    num_classes: int = 0
    class_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.source)


def read(source: Source, indices: Sequence[int]) -> Sequence[Mapping[str, Any]]:
    """The records at `indices`, all at once where the source can."""
    many = getattr(source, "__getitems__", None)
    return many(indices) if many else [source[i] for i in indices]


@dataclass(frozen=True, eq=False)
class ArraySource:
    """Records that lie in memory: uint8 images or float32 values `x` `[n, *event]`, and labels `[n]` or None."""

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
    """A data set of arrays that are already in memory.

    Args:
      x: uint8 images `[n, height, width, channels]`, or floating-point values of any event shape `[n, *event]`, kept as
        they are but for their type, which becomes float32 (the caller sees to their scale).
      labels: integers `[n]` from 0, or None.
      class_names: the classes' names; without them there are `max(labels) + 1` classes.

    Raises:
      TypeError: `x` is neither uint8 nor floating-point, or `labels` are not integers.
      ValueError: shapes do not fit, labels out of range, nothing in `x`, or values that are not finite.
    """
    x = np.asarray(x)
    if x.dtype == np.uint8:
        if x.ndim != 4:
            raise ValueError(f"x has shape {x.shape}; allowed for uint8 images is [n, height, width, channels]")
    elif np.issubdtype(x.dtype, np.floating):
        if x.ndim < 2:
            raise ValueError(f"x has shape {x.shape}; allowed is [n, *event] with at least one event axis")
        if not np.isfinite(x).all():
            raise ValueError("x holds NaN or infinity; allowed are finite numbers")
        x = x.astype(np.float32)
    else:
        raise TypeError(f"x has dtype {x.dtype}; allowed are uint8 and floating-point types")
    if 0 in x.shape:
        raise ValueError(f"x has shape {x.shape}; allowed are shapes without a zero")
    x = np.ascontiguousarray(x)

    if labels is None:
        if class_names:
            raise ValueError(f"class_names = {tuple(class_names)!r} is given without labels; allowed is ()")
        return Examples(ArraySource(x, None), x.shape[1:])
    labels = np.asarray(labels)
    if not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(f"labels has dtype {labels.dtype}; allowed are integer types")
    if labels.shape != x.shape[:1]:
        raise ValueError(f"labels has shape {labels.shape}; allowed is {x.shape[:1]}, one for each of x")
    num_classes = len(class_names) or int(labels.max()) + 1
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(f"labels lie in {labels.min()}..{labels.max()}; allowed are 0..{num_classes - 1}")
    source = ArraySource(x, np.ascontiguousarray(labels, np.int32))
    return Examples(source, x.shape[1:], num_classes, tuple(class_names))


def in_memory(images: Examples) -> Examples:
    """Reads and decodes the whole set once, with threads, so that a training step never waits for it.

    For sets that fit: CIFAR-10's 50,000 images take 150 MB. A set that is in memory already is returned as it is.

    Raises:
      ValueError: a record cannot be read, or is not of the shape that `images` promises.
    """
    source, n = images.source, len(images)
    if isinstance(source, ArraySource):
        return images
    x = np.empty((n, *images.shape), np.uint8 if np.asarray(source[0]["image"]).dtype == np.uint8 else np.float32)
    labels = np.empty(n, np.int32) if images.num_classes else None

    def fill(start: int) -> None:
        indices = range(start, min(start + CHUNK, n))
        for i, record in zip(indices, read(source, indices), strict=True):
            if np.shape(record["image"]) != images.shape:
                raise ValueError(f"record {i} has shape {np.shape(record['image'])}; the set's is {images.shape}")
            x[i] = record["image"]
            if labels is not None:
                labels[i] = record["label"]

    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        # list() so that an error in a thread is raised here.
        list(pool.map(fill, range(0, n, CHUNK)))
    return Examples(ArraySource(x, labels), images.shape, images.num_classes, images.class_names)
