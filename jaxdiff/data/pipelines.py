"""Grain pipelines: batches that are a function of (seed, step), however one gets to the step."""

import functools
import os
import signal
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grain
import jax
import numpy as np
from absl import flags
from jaxtyping import Bool, Int32, Int64, Shaped

from jaxdiff.data.pixels import to_unit
from jaxdiff.data.sources import ArraySource, Examples, read

Batch = dict[str, np.ndarray]

# A run takes far fewer batches; Grain wants a length.
ENDLESS = 2**62


class Batches:
    """An iterator over batches that can be told where to go on. Its whole state is the number of batches handed out.

    Nothing is started before the first batch is asked for. An error leaves the position where it was, and the batch
    asked for next is the one that failed.
    """

    def __init__(
        self,
        read: Callable[[int], Any],
        finish: Callable[[Any], Batch],
        *,
        steps: int = ENDLESS,
        threads: int = 0,
        workers: int = 0,
    ):
        """Batch k is `finish(read(k))`: `read` may be called ahead, in threads or in worker processes (to which it is
        pickled); `finish` when the batch is asked for. There are `steps` batches.
        """
        self._read, self._finish = read, finish
        self._steps, self._threads, self._workers = steps, threads, workers
        self._next, self._closed = 0, False
        # Grain's iterator, if it has been started. It is ended also when these batches are forgotten and when the
        # interpreter ends, where Grain, held by anything else, would trip over its own ruins.
        self._running: list[Any] = []
        weakref.finalize(self, _end, self._running)

    def __iter__(self) -> "Batches":
        return self

    def __next__(self) -> Batch:
        if self._closed:
            raise ValueError("these batches have been closed; make new ones")
        if self._next >= self._steps:
            raise StopIteration
        try:
            if not self._running:
                self._start()
            batch = self._finish(next(self._running[0]))
        except BaseException as error:
            # Grain, asked again after an error, leaves batches out.
            _end(self._running)
            if self._workers and isinstance(error, RuntimeError):
                raise RuntimeError(f"batch {self._next} could not be read by a worker process: {error}") from error
            if isinstance(error, StopIteration):
                raise RuntimeError(f"batch {self._next} of {self._steps} could not be read") from error
            raise
        self._next += 1
        return batch

    def get_state(self) -> dict[str, int]:
        """`{"next": k}`: k batches have been handed out; those read ahead do not count."""
        return {"next": self._next}

    def set_state(self, state: Mapping[str, int]) -> None:
        """Goes on at a position that `get_state` gave, here or elsewhere, whatever the threads, workers and rows.

        Raises:
          ValueError: `state` is no such position.
        """
        position = state.get("next") if isinstance(state, Mapping) else None
        if isinstance(position, bool) or not isinstance(position, int) or not 0 <= position <= self._steps:
            raise ValueError(f"state = {state!r} is not allowed; allowed is {{'next': number of batches handed out}}")
        _end(self._running)
        self._next = position

    def close(self) -> None:
        """Ends worker processes and threads. No more batches can be had."""
        self._closed = True
        _end(self._running)

    def _start(self) -> None:
        options = grain.ReadOptions(num_threads=self._threads, prefetch_buffer_size=2 * self._threads)
        # Grain's own state depends on the number of workers; starting its range at the batch wanted does not.
        dataset = grain.MapDataset.range(self._next, self._steps).map(self._read).to_iter_dataset(options)
        if self._workers:
            if not flags.FLAGS.is_parsed():
                # Grain asks for a flag that only programs made with absl have parsed.
                flags.FLAGS.mark_as_parsed()
            processes = grain.MultiprocessingOptions(num_workers=self._workers, per_worker_buffer_size=2)
            dataset = dataset.mp_prefetch(processes, worker_init_fn=functools.partial(_init_worker, os.getpid()))
        self._running.append(iter(dataset))


def _end(running: list[Any]) -> None:
    while running:
        running.pop().close()


def training_batches(
    images: Examples,
    batch_size: int,
    *,
    seed: int,
    flip: bool = False,
    rows: Sequence[int] | None = None,
    workers: int = 0,
) -> Batches:
    """Endless batches `{"x": float32 [batch, *event], "cond": int32 [batch]}`; no `cond` when unlabelled.

    uint8 images come out in [-1, 1]; floating-point data as it is. The set is shuffled anew for every epoch, and the
    epochs follow one another without a seam: of the examples drawn, each run of `len(images)` holds every one once, so
    a batch may end one epoch and begin the next. Batch k depends on `(images, batch_size, seed, flip)` and k alone. The
    iterator's whole state is k: `get_state()` and `set_state(state)` store and restore it, with another number
    of rows or workers too.

    A set in memory costs one gather per batch, done when the batch is asked for. Any other set is read and decoded
    ahead by Grain, one batch at a time each: by threads, or by `workers` processes with threads of their own. Processes
    are spawned, so a script that asks for them must guard its main part by `if __name__ == "__main__"`; they keep off
    accelerators, leave signals to this process, and vanish within seconds of it however it ends.

    Args:
      images: the data set.
      batch_size: examples per step over all processes.
      seed: 0 .. 2**32 - 1.
      flip: mirror each image left to right with probability 1/2.
      rows: the places in every batch of the examples that this process takes, ascending; None for all of them.
      workers: processes that read and decode; 0 for threads alone. A set in memory needs none and gets none.

    Raises:
      ValueError: `batch_size` is not a positive integer or exceeds the set; `seed`, `rows` or `workers` out of range;
        `flip` of data that are not images.
      RuntimeError: when a batch is asked for: a worker process has died.
    """
    draw = training_draw(images, batch_size, seed=seed, flip=flip, rows=rows)
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 0:
        raise ValueError(f"workers = {workers!r} is not allowed; allowed are integers from 0")
    return _iterate(images, _ReadDrawn(images, draw), ENDLESS, workers)


def evaluation_batches(images: Examples, batch_size: int) -> Batches:
    """The whole set once and in order, in batches as `training_batches` makes them; the last may be short.

    Raises:
      ValueError: `batch_size` is not a positive integer.
    """
    _check_batch_size(batch_size)
    return _iterate(images, _ReadInOrder(images, batch_size), -(-len(images) // batch_size), 0)


@dataclass(frozen=True, eq=False)
class Draw:
    """`draw(k)`: the examples in some rows of training batch k, and which are mirrored (None: nobody asked)."""

    n: int
    batch_size: int
    seed: int
    flip: bool
    rows: Int64[np.ndarray, " b"]

    def __call__(self, step: int) -> tuple[Int64[np.ndarray, " b"], Bool[np.ndarray, " b"] | None]:
        positions = self.rows + step * self.batch_size
        epochs = positions // self.n
        indices = np.concatenate(
            [_order(self.n, self.seed, int(e))[positions[epochs == e] % self.n] for e in np.unique(epochs)]
        )
        if not self.flip:
            return indices, None
        # Drawn for the whole batch, so that some rows of it do what they would in the whole.
        return indices, np.random.default_rng([self.seed, 1, step]).random(self.batch_size)[self.rows] < 0.5


def training_draw(images: Examples, batch_size: int, *, seed: int, flip: bool, rows: Sequence[int] | None) -> Draw:
    """Which examples make up the batches of `training_batches`, whose arguments and errors these are."""
    _check_batch_size(batch_size)
    n = len(images)
    if batch_size > n:
        raise ValueError(f"batch_size = {batch_size} exceeds the data set; allowed are 1..{n}")
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise ValueError(f"seed = {seed!r} is not allowed; allowed are integers 0..2**32 - 1")
    if flip and len(images.shape) != 3:
        raise ValueError(f"flip = True needs images [height, width, channels]; examples have shape {images.shape}")
    taken = np.arange(batch_size) if rows is None else np.asarray(rows)
    if taken.ndim != 1 or not taken.size or taken.dtype.kind not in "iu" or taken[0] < 0 or taken[-1] >= batch_size:
        raise ValueError(f"rows = {rows!r} is not allowed; allowed are places 0..{batch_size - 1} in a batch")
    if np.any(np.diff(taken) < 1):
        raise ValueError(f"rows = {rows!r} is not allowed; allowed are places in ascending order")
    return Draw(n, batch_size, seed, flip, taken)


# A batch touches at most two epochs, and a few batches are made at once.
@functools.lru_cache(maxsize=4)
def _order(n: int, seed: int, epoch: int) -> Int64[np.ndarray, " n"]:
    return np.random.default_rng([seed, 0, epoch]).permutation(n)


# What Grain calls are classes, as closures cannot be sent to a worker process.
@dataclass(frozen=True, eq=False)
class _ReadDrawn:
    images: Examples
    draw: Draw

    def __call__(self, step: int) -> Batch:
        indices, mirrored = self.draw(step)
        batch = _read(self.images, indices)
        if mirrored is not None:
            batch["x"][mirrored] = batch["x"][mirrored, :, ::-1]
        return batch


@dataclass(frozen=True, eq=False)
class _ReadInOrder:
    images: Examples
    batch_size: int

    def __call__(self, step: int) -> Batch:
        return _read(
            self.images, np.arange(step * self.batch_size, min((step + 1) * self.batch_size, len(self.images)))
        )


def _check_batch_size(batch_size: int) -> None:
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"batch_size = {batch_size!r} is not allowed; allowed are positive integers")


def _read(images: Examples, indices: Int64[np.ndarray, " batch"]) -> Batch:
    x: Shaped[np.ndarray, " batch *event"]
    labels: Int32[np.ndarray, " batch"] | None
    source = images.source
    if isinstance(source, ArraySource):
        x, labels = source.x[indices], None if source.labels is None else source.labels[indices]
    else:
        records = read(source, indices.tolist())
        x = np.stack([r["image"] for r in records])
        labels = np.asarray([r["label"] for r in records], np.int32) if images.num_classes else None
    return {"x": x} if labels is None else {"x": x, "cond": labels}


def _to_values(batch: Batch) -> Batch:
    # Here and not where they are read, so that workers hand over bytes, a quarter of the memory. What they hand over
    # lies in memory they share with this process, of which nothing is kept.
    x = np.asarray(batch["x"])
    values = to_unit(x) if x.dtype == np.uint8 else np.array(x)
    return {"x": values} | ({"cond": np.array(batch["cond"])} if "cond" in batch else {})


def _iterate(images: Examples, read: Callable[[int], Batch], steps: int, workers: int) -> Batches:
    if isinstance(images.source, ArraySource):
        return Batches(read, _to_values, steps=steps)  # neither threads nor processes gain anything
    # Each thread works on a batch of its own.
    threads = min(8, max(1, (os.cpu_count() or 1) // max(1, workers)))
    return Batches(read, _to_values, steps=steps, threads=threads, workers=workers)


def _init_worker(parent: int, index: int, count: int) -> None:
    """Runs first in a worker process."""
    # A device that this process took would be lost to the trainer.
    jax.config.update("jax_platforms", "cpu")
    # A signal sent to the whole job is the trainer's to act on, which may need batches to get to where it can stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """Ends this process when its parent is gone: killed, it could not tell."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
