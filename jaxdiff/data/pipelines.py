"""Grain pipelines whose batches depend on the seed and the step alone."""

import functools
import os
import signal
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from absl import flags
from jaxtyping import Int64

from jaxdiff.checks import integer, require
from jaxdiff.data.sources import ArraySource, Examples, read_columns
from jaxdiff.extras import needed

Batch = dict[str, np.ndarray]

# Grain needs a length. No run takes as many batches.
ENDLESS = 2**62


class Batches:
    """An iterator over batches whose whole state is the number of batches returned so far.

    No thread or process starts before the first `next`. After an error the state is unchanged, and another `next`
    tries the failed batch again.
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
        """Makes an iterator whose batch k is `finish(read(k))`.

        Args:
          read: called ahead of time, in threads or in worker processes. For processes it is pickled.
          finish: called in `next`.
          steps: number of batches.
          threads: threads that call `read` (in each worker process, if there are any); 0 calls it in `next`.
          workers: processes that call `read`; 0 for none.
        """
        self._read, self._finish = read, finish
        self._steps, self._threads, self._workers = steps, threads, workers
        self._next, self._closed = 0, False
        # Grain's iterator, once it has started. The finalizer closes it when this object is collected, and before the
        # interpreter shuts down, since Grain fails if it is closed during the shutdown.
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
            # After an error Grain's iterator would skip batches.
            _end(self._running)
            if self._workers and isinstance(error, RuntimeError):
                raise RuntimeError(f"batch {self._next} could not be read by a worker process: {error}") from error
            if isinstance(error, StopIteration):
                raise RuntimeError(f"batch {self._next} of {self._steps} could not be read") from error
            raise
        self._next += 1
        return batch

    def get_state(self) -> dict[str, int]:
        """`{"next": k}` after k batches have been returned. Batches read ahead do not count."""
        return {"next": self._next}

    def set_state(self, state: Mapping[str, int]) -> None:
        """Continues from a state that `get_state` returned; threads, workers and rows may have differed there.

        Raises:
          ValueError: `state` is not of the form `{"next": k}`, or k is out of range.
        """
        position: Any = state.get("next") if isinstance(state, Mapping) else None
        good = isinstance(position, int | np.integer) and not isinstance(position, bool)
        require(good and 0 <= position <= self._steps, "state", state, f"{{'next': k}} with k from 0 to {self._steps}")
        _end(self._running)
        self._next = int(position)

    def close(self) -> None:
        """Ends worker processes and threads. No more batches can be read."""
        self._closed = True
        _end(self._running)

    def _start(self) -> None:
        with needed("jaxdiff.data.training_batches"):
            import grain  # slow to import: a command line with a mistake is refused before

        options = grain.ReadOptions(num_threads=self._threads, prefetch_buffer_size=2 * self._threads)
        # Grain's own state depends on the number of workers. A range that starts at the next batch does not.
        dataset = grain.MapDataset.range(self._next, self._steps).map(self._read).to_iter_dataset(options)
        if self._workers:
            if not flags.FLAGS.is_parsed():
                # Grain reads a flag, which only programs that run under absl have parsed.
                flags.FLAGS.mark_as_parsed()
            processes = grain.MultiprocessingOptions(num_workers=self._workers, per_worker_buffer_size=2)
            dataset = dataset.mp_prefetch(processes, worker_init_fn=functools.partial(_init_worker, os.getpid()))
        self._running.append(iter(dataset))


def _end(running: list[Any]) -> None:
    while running:
        running.pop().close()


def training_batches(
    examples: Examples,
    batch_size: int,
    *,
    seed: int,
    rows: Sequence[int] | None = None,
    workers: int = 0,
) -> Batches:
    """Endless batches: mappings from the names of the fields to arrays `[batch, *shape]`.

    The types are those of the fields: pictures of bytes stay bytes, and the step converts them by `to_floats`. Every
    epoch has its own order, and epochs follow each other without a gap, so a batch may end one epoch and begin the
    next. Batch k depends on `(examples, batch_size, seed)` and on k alone. The whole state of the iterator is k:
    `get_state()` returns it, and `set_state(state)` restores it. The rows and the number of workers may change in
    between.

    A set in memory costs one gather per batch, made in `next`. Grain reads and decodes any other set ahead of time, in
    threads or in `workers` processes with their own threads; each thread makes one batch at a time. Processes are
    spawned, so a script that uses them must guard its main part by `if __name__ == "__main__"`. They use no
    accelerator, ignore SIGINT and SIGTERM, and end within seconds after this process, however it ends.

    Args:
      examples: the data set. Its fields are numbers; text is first read by `select`.
      batch_size: examples per step over all processes.
      seed: 0 to 2**32 - 1.
      rows: the positions in every batch that this process reads, ascending; None for all positions.
      workers: processes that read and decode; 0 for threads alone. A set in memory uses no worker.

    Raises:
      ValueError: a field is text; `batch_size` is not a positive integer or exceeds the set; `seed`, `rows` or
        `workers` is out of range.
      RuntimeError: a worker process has died. `next` raises this error.
    """
    draw = training_draw(examples, batch_size, seed=seed, rows=rows)
    integer("workers", workers, least=0)
    return _iterate(examples, _ReadDrawn(examples, draw), ENDLESS, workers)


def evaluation_batches(examples: Examples, batch_size: int) -> Batches:
    """The whole set once and in order, in batches like those of `training_batches`; the last batch may be shorter.

    Raises:
      ValueError: a field is text, or `batch_size` is not a positive integer.
    """
    check_numeric(examples)
    integer("batch_size", batch_size)
    return _iterate(examples, _ReadInOrder(examples, batch_size), -(-len(examples) // batch_size), 0)


def check_numeric(examples: Examples) -> None:
    """Raises a ValueError if a field is text, which no batch can hold. The error names the field."""
    for name, field in examples.fields.items():
        allowed = "fields of numbers; `select` leaves text out, or reads it as numbers"
        require(field.kind != "text", f"kind of the field {name!r}", field.kind, allowed)


@dataclass(frozen=True, eq=False)
class Draw:
    """A function `draw(k)` that gives the indices of the examples of training batch k.

    Attributes:
      n: number of examples in the set.
      batch_size: examples in a whole batch.
      seed: 0 to 2**32 - 1.
      rows: the positions in the batch that are drawn.
    """

    n: int
    batch_size: int
    seed: int
    rows: Int64[np.ndarray, " b"]

    def __call__(self, step: int) -> Int64[np.ndarray, " b"]:
        positions = self.rows + step * self.batch_size
        epochs = positions // self.n
        return np.concatenate(
            [_order(self.n, self.seed, int(e))[positions[epochs == e] % self.n] for e in np.unique(epochs)]
        )


def training_draw(examples: Examples, batch_size: int, *, seed: int, rows: Sequence[int] | None) -> Draw:
    """The draw of `training_batches`. Its arguments and errors are the same."""
    check_numeric(examples)
    n = len(examples)
    integer("batch_size", batch_size)
    require(batch_size <= n, "batch_size", batch_size, f"1..{n}, the size of the data set")
    integer("seed", seed, least=0, most=2**32 - 1)
    taken = np.arange(batch_size) if rows is None else np.asarray(rows)
    good = taken.ndim == 1 and taken.size and taken.dtype.kind in "iu" and np.all(np.diff(taken) > 0)
    good = good and taken[0] >= 0 and taken[-1] < batch_size
    require(good, "rows", rows, f"ascending positions from 0 to {batch_size - 1}")
    return Draw(n, batch_size, seed, taken)


# A batch spans at most two epochs, and a few batches are made at the same time.
@functools.lru_cache(maxsize=4)
def _order(n: int, seed: int, epoch: int) -> Int64[np.ndarray, " n"]:
    return np.random.default_rng([seed, 0, epoch]).permutation(n)


# Classes, since closures cannot be pickled for a worker process.
@dataclass(frozen=True, eq=False)
class _ReadDrawn:
    examples: Examples
    draw: Draw

    def __call__(self, step: int) -> Batch:
        return _read(self.examples, self.draw(step))


@dataclass(frozen=True, eq=False)
class _ReadInOrder:
    examples: Examples
    batch_size: int

    def __call__(self, step: int) -> Batch:
        first = step * self.batch_size
        return _read(self.examples, np.arange(first, min(first + self.batch_size, len(self.examples))))


def _read(examples: Examples, indices: Int64[np.ndarray, " batch"]) -> Batch:
    return {name: np.asarray(column) for name, column in read_columns(examples, indices).items()}


def _iterate(examples: Examples, read: Callable[[int], Batch], steps: int, workers: int) -> Batches:
    if isinstance(examples.source, ArraySource):
        return Batches(read, dict, steps=steps)  # threads and processes would not make a gather faster
    # Each thread makes one batch at a time.
    threads = min(8, max(1, (os.cpu_count() or 1) // max(1, workers)))
    return Batches(read, _copied if workers else dict, steps=steps, threads=threads, workers=workers)


def _copied(batch: Batch) -> Batch:
    """Copies of arrays that workers sent in shared memory, which Grain reuses."""
    return {name: np.array(value) for name, value in batch.items()}


def _init_worker(parent: int, index: int, count: int) -> None:
    """Sets up a worker process before it reads its first batch."""
    # The trainer could not use an accelerator that a worker has claimed.
    jax.config.update("jax_platforms", "cpu")
    # Only the trainer acts on a signal to the whole job. It may need more batches until it can stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """Ends this process when its parent is gone. A parent that is killed cannot end its workers."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
