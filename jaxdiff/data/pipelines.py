"""Grain pipelines: batches that are a function of (seed, step), however one gets to the step."""

import functools
import os
from collections.abc import Callable
from typing import Any

import grain
import numpy as np
from jaxtyping import Int32, Int64, Shaped

from jaxdiff.data.pixels import to_unit
from jaxdiff.data.sources import ArraySource, Images, read

Batch = dict[str, np.ndarray]

# A run takes far fewer batches; Grain wants a length.
ENDLESS = 2**62


def training_batches(
    images: Images, batch_size: int, *, seed: int, flip: bool = False, shard: tuple[int, int] = (0, 1)
) -> "grain.DatasetIterator[Batch]":
    """Endless batches `{"x": float32 [batch, *event], "cond": int32 [batch]}`; no `cond` when unlabelled.

    uint8 images come out in [-1, 1]; floating-point data as it is. The set is shuffled anew for every epoch, and the
    epochs follow one another without a seam: of the examples drawn, each run of `len(images)` holds every one once, so
    a batch may end one epoch and begin the next. Batch k depends on `(images, batch_size, seed, flip)` and k alone. The
    iterator's whole state is k: `get_state()` and `set_state(state)` store and restore it, with another number
    of shards too.

    A set in memory costs one gather per batch, done when the batch is asked for. Any other set is read and decoded
    ahead by Grain's threads, one batch each.

    Args:
      images: the data set.
      batch_size: examples per step over all shards.
      seed: 0 .. 2**32 - 1.
      flip: mirror each image left to right with probability 1/2.
      shard: `(index, count)`: this process takes rows `index * b .. (index + 1) * b` of every batch, b being
        `batch_size / count`.

    Raises:
      ValueError: `batch_size` is not a positive integer, exceeds the set or is not divisible by the number of shards;
        `seed` or `shard` out of range; `flip` of data that are not images.
    """
    _check_batch_size(batch_size)
    n = len(images)
    if batch_size > n:
        raise ValueError(f"batch_size = {batch_size} exceeds the data set; allowed are 1..{n}")
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise ValueError(f"seed = {seed!r} is not allowed; allowed are integers 0..2**32 - 1")
    if flip and len(images.shape) != 3:
        raise ValueError(f"flip = True needs images [height, width, channels]; examples have shape {images.shape}")
    index, count = shard
    if not 0 <= index < count:
        raise ValueError(f"shard = {shard!r} is not allowed; allowed are (index, count) with 0 <= index < count")
    if batch_size % count:
        raise ValueError(f"batch_size = {batch_size} is not divisible by the {count} shards")
    rows = slice(index * batch_size // count, (index + 1) * batch_size // count)

    # A batch touches at most two epochs, and a few batches are made at once.
    @functools.lru_cache(maxsize=3)
    def order(epoch: int) -> Int64[np.ndarray, " n"]:
        return np.random.default_rng([seed, 0, epoch]).permutation(n)

    def batch(step: int) -> Batch:
        positions = np.arange(batch_size)[rows] + step * batch_size
        epochs = positions // n
        indices = np.concatenate([order(int(e))[positions[epochs == e] % n] for e in np.unique(epochs)])
        x, labels = _read(images, indices)
        if flip:
            # Drawn for the whole batch, so that the shards of it do what the whole would.
            mirrored = np.random.default_rng([seed, 1, step]).random(batch_size)[rows] < 0.5
            x[mirrored] = x[mirrored, :, ::-1]
        return _to_batch(x, labels)

    return _iterate(images, batch, ENDLESS)


def evaluation_batches(images: Images, batch_size: int) -> "grain.DatasetIterator[Batch]":
    """The whole set once and in order, in batches as `training_batches` makes them; the last may be short.

    Raises:
      ValueError: `batch_size` is not a positive integer.
    """
    _check_batch_size(batch_size)
    n = len(images)

    def batch(step: int) -> Batch:
        return _to_batch(*_read(images, np.arange(step * batch_size, min((step + 1) * batch_size, n))))

    return _iterate(images, batch, -(-n // batch_size))


def _check_batch_size(batch_size: int) -> None:
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"batch_size = {batch_size!r} is not allowed; allowed are positive integers")


def _read(
    images: Images, indices: Int64[np.ndarray, " batch"]
) -> tuple[Shaped[np.ndarray, " batch *event"], Int32[np.ndarray, " batch"] | None]:
    source = images.source
    if isinstance(source, ArraySource):
        return source.x[indices], None if source.labels is None else source.labels[indices]
    records = read(source, indices.tolist())
    labels = np.asarray([r["label"] for r in records], np.int32) if images.num_classes else None
    return np.stack([r["image"] for r in records]), labels


def _to_batch(x: Shaped[np.ndarray, " batch *event"], labels: Int32[np.ndarray, " batch"] | None) -> Batch:
    values = to_unit(x) if x.dtype == np.uint8 else x
    return {"x": values} if labels is None else {"x": values, "cond": labels}


def _iterate(images: Images, batch: Callable[[int], Batch], steps: int) -> Any:
    # Threads gain nothing for arrays in memory; for files, each works on a batch of its own.
    threads = 0 if isinstance(images.source, ArraySource) else min(8, os.cpu_count() or 1)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
    return iter(grain.MapDataset.range(steps).map(batch).to_iter_dataset(options))
