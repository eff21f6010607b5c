"""Batches brought to the device while the step before them runs."""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

# How long `close` waits for a source that does not answer.
PATIENCE = 10.0


class Prefetched:
    """An iterator over batches on the device, filled by a thread of its own. Made by `prefetch`.

    Attributes:
      waited: seconds that `next` has waited for batches so far. What it grows by, divided by the time that has
        passed, is the part of the time in which the device may have had nothing to do.
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
        """The source's state after the batches handed out: those that wait here do not count."""
        return self._state

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Goes on at a state that `get_state` gave; what has been prefetched is dropped.

        Raises:
          TimeoutError: the source is still at work on a batch, and does not come to an end of it.
        """
        if not self._end():
            raise TimeoutError(f"the data source has not answered for {2 * PATIENCE:.0f} seconds")
        # First back to what was handed out, where it belongs should the source refuse `state`.
        self._batches.set_state(self._state)
        self._batches.set_state(state)
        self._state = self._batches.get_state()

    def close(self) -> None:
        """Ends the thread and the source. No more batches can be had."""
        self._closed = True
        self._end()
        self._batches.close()

    def _fill(self) -> None:
        while True:
            with self._change:
                # A batch that is being made counts, so that no more than `depth` are ever held.
                self._change.wait_for(lambda: self._stopping or len(self._ready) < self._depth)
                if self._stopping:
                    return
            item: tuple[Any, Any, BaseException | None]
            try:
                batch = self._take()
                item = self._place(batch), self._batches.get_state(), None
                del batch
            except BaseException as error:  # raised where the batch is asked for
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
        """Ends the thread and drops what it made; False if the source has kept it for too long."""
        if self._thread is not None:
            with self._change:
                self._stopping = True
                self._change.notify_all()
            self._thread.join(PATIENCE)
            if self._thread.is_alive():
                # Only closing the source may bring it to answer. The thread will not ask again.
                self._closed = True
                self._batches.close()
                self._thread.join(PATIENCE)
                if self._thread.is_alive():
                    return False
        self._thread = None
        self._stopping = False
        self._ready.clear()
        return True


def prefetch(batches: Any, place: Callable[[Any], Any], *, depth: int = 2, group: int = 1) -> Prefetched:
    """Makes batches ready in a thread, so that the step finds them on the device.

    Args:
      batches: an iterator with `get_state`, `set_state` and `close`, such as `training_batches`; from now on it belongs
        to what is returned.
      place: host batch -> device batch, called in the thread.
      depth: how many batches (or groups of them) are kept ready at most, the one being made included.
      group: stack so many consecutive batches on a new leading axis, for a step that scans over them. Of a source that
        ends, batches that do not fill a group are left out.

    Returns: the iterator. Nothing is read before the first batch is asked for. An error of the source or of `place` is
      raised, as it was, by the `next` that would have given the batch, and by every other until `set_state`.

    Raises:
      ValueError: `depth` or `group` is not a positive integer.
    """
    for name, value in (("depth", depth), ("group", group)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} = {value!r} is not allowed; allowed are positive integers")
    return Prefetched(batches, place, depth, group)
