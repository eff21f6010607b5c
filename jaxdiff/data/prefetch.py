"""Batches moved to the device while the previous step runs."""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from jaxdiff.checks import integer

# Seconds that `close` waits for a source that does not answer.
TIMEOUT = 10.0


class Prefetched:
    """An iterator over batches on the device, filled by its own thread. Made by `prefetch`.

    Attributes:
      waited: seconds that `next` has waited for batches so far. The device may have been idle for this time.
    """

    def __init__(self, batches: Any, place: Callable[[Any], Any], depth: int, group: int):
        self._batches, self._place, self._depth, self._group = batches, place, depth, group
        self._change = threading.Condition()
        self._ready: deque[tuple[Any, Any, BaseException | None]] = deque()
        self._thread: threading.Thread | None = None
        self._stopping = self._closed = False
        self._state = batches.get_state()
        self.waited = 0.0

    def __iter__(self) -> "Prefetched":
        return self

    def __next__(self) -> Any:
        if self._closed:
            raise ValueError("these batches have been closed; make new ones")
        if self._thread is None:
            self._thread = threading.Thread(target=self._fill, name="prefetch", daemon=True)
            self._thread.start()
        start = time.perf_counter()
        with self._change:
            self._change.wait_for(lambda: self._ready)
            batch, state, error = self._ready[0]
            if error is None:
                self._ready.popleft()
                self._change.notify_all()
        self.waited += time.perf_counter() - start
        if error is not None:
            raise error
        self._state = state
        return batch

    def get_state(self) -> Any:
        """The state of the source after the batches returned so far. Prefetched batches do not count."""
        return self._state

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continues from a state that `get_state` returned. Prefetched batches are dropped.

        Raises:
          TimeoutError: the source is making a batch and does not finish it.
        """
        if not self._end():
            raise TimeoutError(f"the data source has not answered for {2 * TIMEOUT:.0f} seconds")
        # First go back to the last batch returned: the source stays there if it refuses `state`.
        self._batches.set_state(self._state)
        self._batches.set_state(state)
        self._state = self._batches.get_state()

    def close(self) -> None:
        """Ends the thread and closes the source. No more batches can be read."""
        self._closed = True
        self._end()
        self._batches.close()

    def _fill(self) -> None:
        while True:
            with self._change:
                # The batch that is being made counts, so that there are never more than `depth`.
                self._change.wait_for(lambda: self._stopping or len(self._ready) < self._depth)
                if self._stopping:
                    return
            item: tuple[Any, Any, BaseException | None]
            try:
                batch = self._take()
                item = self._place(batch), self._batches.get_state(), None
                del batch
            except BaseException as error:  # `next` raises it in place of the batch
                item = None, None, error
            with self._change:
                self._ready.append(item)
                self._change.notify_all()
            if item[2] is not None:
                return
            del item

    def _take(self) -> Any:
        if self._group == 1:
            return next(self._batches)
        return jax.tree.map(lambda *leaves: np.stack(leaves), *[next(self._batches) for _ in range(self._group)])

    def _end(self) -> bool:
        """Ends the thread and drops its batches. Returns False if the source does not answer within the timeout."""
        if self._thread is not None:
            with self._change:
                self._stopping = True
                self._change.notify_all()
            self._thread.join(TIMEOUT)
            if self._thread.is_alive():
                # Closing the source may make it answer. The thread asks for no other batch.
                self._closed = True
                self._batches.close()
                self._thread.join(TIMEOUT)
                if self._thread.is_alive():
                    return False
        self._thread = None
        self._stopping = False
        self._ready.clear()
        return True


def prefetch(batches: Any, place: Callable[[Any], Any], *, depth: int = 2, group: int = 1) -> Prefetched:
    """Prepares batches in a thread, so that the step finds them on the device.

    Args:
      batches: an iterator with `get_state`, `set_state` and `close`, such as `training_batches`. The result takes it
        over: nothing else may use it afterwards.
      place: a function from a host batch to a device batch. The thread calls it.
      depth: the largest number of batches (or groups) ready at once, including the one being made.
      group: the number of consecutive batches that are stacked on a new leading axis, for a step that scans over them.
        The last batches of a source that ends are dropped if they do not fill a group.

    Returns:
      The iterator. It reads nothing before the first `next`. An error of the source or of `place` is raised unchanged
      by the `next` that would have returned the batch, and again by every later `next` until `set_state`.

    Raises:
      ValueError: `depth` or `group` is not a positive integer.
    """
    integer("depth", depth)
    integer("group", group)
    return Prefetched(batches, place, depth, group)
