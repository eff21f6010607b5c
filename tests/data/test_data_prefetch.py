import importlib
import itertools
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.data import from_arrays, prefetch, training_batches


class Counting:
    """Batches that are their own numbers, and that can be slow, fail, end or hang."""

    def __init__(self, *, end=None, fail_at=None, pause=0.0, hang_at=None):
        self.next, self.closed = 0, False
        self.end, self.fail_at, self.pause, self.hang_at = end, fail_at, pause, hang_at
        self.released = threading.Event()
        self.made = 0

    def __next__(self):
        if self.next == self.hang_at:
            self.released.wait()
        if self.next == self.end:
            raise StopIteration
        if self.next == self.fail_at:
            raise ArithmeticError(f"batch {self.next} is broken")
        time.sleep(self.pause)
        self.next += 1
        self.made += 1
        return {"x": np.full((2, 3), self.next - 1.0)}

    def get_state(self):
        return {"next": self.next}

    def set_state(self, state):
        if state["next"] < 0:
            raise ValueError("a position below 0")
        self.next = state["next"]

    def close(self):
        self.closed = True
        self.released.set()


def numbers(batches, count):
    return [float(np.ravel(batch["x"])[0]) for batch in itertools.islice(batches, count)]


def settled(value, seconds=0.1):
    """The value of `value()` once it has not changed for `seconds`."""
    last, since = value(), time.perf_counter()
    while time.perf_counter() - since < seconds:
        if value() != last:
            last, since = value(), time.perf_counter()
        time.sleep(0.01)
    return last


def prefetch_threads():
    return [thread for thread in threading.enumerate() if thread.name == "prefetch"]


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    yield
    assert not prefetch_threads()


def test_batches_come_in_order_from_the_device():
    batches = prefetch(Counting(), jax.device_put)
    first = next(batches)
    assert isinstance(first["x"], jax.Array)
    assert numbers(batches, 20) == list(range(1, 21))
    batches.close()


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("group", [1, 2])
def test_at_most_depth_batches_are_made_ahead(depth, group):
    source = Counting()
    batches = prefetch(source, lambda batch: batch, depth=depth, group=group)
    assert settled(lambda: source.made) == 0  # nothing is made before the first `next`
    for taken in range(1, 4):
        next(batches)
        assert settled(lambda: source.made) == group * (taken + depth)
    batches.close()


def test_groups_are_stacks_of_consecutive_batches():
    examples = from_arrays(x=np.random.default_rng(0).integers(0, 256, (30, 4, 4, 1), np.uint8), label=np.arange(30))
    single = list(itertools.islice(training_batches(examples, 7, seed=1), 9))
    batches = prefetch(training_batches(examples, 7, seed=1), lambda batch: batch, group=3)
    for i in range(3):
        grouped = next(batches)
        assert {name: value.shape for name, value in grouped.items()} == {"x": (3, 7, 4, 4, 1), "label": (3, 7)}
        for name, value in grouped.items():
            np.testing.assert_array_equal(value, np.stack([batch[name] for batch in single[3 * i : 3 * i + 3]]))
        assert batches.get_state() == {"next": 3 * i + 3}
    batches.close()


def test_the_state_counts_returned_batches_only():
    source = Counting()
    batches = prefetch(source, lambda batch: batch, depth=3)
    assert batches.get_state() == {"next": 0}
    assert numbers(batches, 5) == [0, 1, 2, 3, 4]
    settled(lambda: source.made)
    assert (batches.get_state(), source.get_state()) == ({"next": 5}, {"next": 8})
    batches.set_state({"next": 2})
    assert batches.get_state() == {"next": 2}
    assert numbers(batches, 3) == [2, 3, 4]
    with pytest.raises(ValueError, match="below 0"):
        batches.set_state({"next": -1})
    assert batches.get_state() == {"next": 5}
    assert numbers(batches, 2) == [5, 6]
    batches.close()
    fresh = prefetch(Counting(), lambda batch: batch)
    fresh.set_state(batches.get_state())
    assert numbers(fresh, 2) == [7, 8]
    fresh.close()


def test_an_error_is_raised_in_place_of_its_batch():
    batches = prefetch(Counting(fail_at=4), lambda batch: batch, depth=8)
    assert numbers(batches, 4) == [0, 1, 2, 3]
    for _ in range(2):
        with pytest.raises(ArithmeticError, match="batch 4 is broken"):
            next(batches)
    assert batches.get_state() == {"next": 4}
    batches.set_state({"next": 7})
    assert numbers(batches, 2) == [7, 8]
    batches.close()


def test_an_error_of_place_is_raised():
    def place(batch):
        if batch["x"][0, 0] == 2:
            raise MemoryError("no room on the device")
        return batch

    batches = prefetch(Counting(), place)
    assert numbers(batches, 2) == [0, 1]
    with pytest.raises(MemoryError, match="no room"):
        next(batches)
    batches.close()


@pytest.mark.parametrize(("group", "expected"), [(1, 5), (2, 2)])
def test_the_iterator_ends_with_its_source(group, expected):
    batches = prefetch(Counting(end=5), lambda batch: batch, group=group)
    assert len(list(batches)) == expected
    assert list(batches) == []
    batches.close()


def test_waiting_is_measured():
    slow = prefetch(Counting(pause=0.05), lambda batch: batch)
    seen, within, began = [], 0.0, time.perf_counter()
    for _ in range(6):
        start = time.perf_counter()
        next(slow)
        within += time.perf_counter() - start
        seen.append(slow.waited)
    slow.close()
    assert seen == sorted(seen)
    # Six batches take at least 0.3 s. A busy machine may delay this thread outside the wait, so half of it must be one.
    assert time.perf_counter() - began >= 0.3
    assert 0.5 * within <= seen[-1] <= within
    fast = prefetch(Counting(pause=0.01), lambda batch: batch)
    next(fast)
    before = fast.waited
    for _ in range(5):
        time.sleep(0.1)
        next(fast)
    assert fast.waited - before < 0.1
    fast.close()


@pytest.mark.parametrize("asked", [0, 1, 5])
def test_close_ends_the_thread_and_the_source(asked):
    source = Counting()
    batches = prefetch(source, lambda batch: batch)
    numbers(batches, asked)
    batches.close()
    batches.close()
    assert source.closed
    assert not prefetch_threads()
    with pytest.raises(ValueError, match="have been closed"):
        next(batches)


def test_close_does_not_wait_forever(monkeypatch):
    monkeypatch.setattr(importlib.import_module("jaxdiff.data.prefetch"), "TIMEOUT", 0.2)
    source = Counting(hang_at=3)
    batches = prefetch(source, lambda batch: batch)
    numbers(batches, 3)
    start = time.perf_counter()
    batches.close()
    assert time.perf_counter() - start < 5
    # A source that does not even answer when it is closed.
    source = Counting(hang_at=3)
    source.close = lambda: None
    batches = prefetch(source, lambda batch: batch)
    numbers(batches, 3)
    with pytest.raises(TimeoutError, match="has not answered"):
        batches.set_state({"next": 0})
    batches.close()
    source.released.set()
    for thread in prefetch_threads():
        thread.join(5)


def test_loading_hides_behind_the_step():
    batches = prefetch(Counting(pause=0.03), lambda batch: jax.tree.map(jnp.asarray, batch))
    next(batches)
    before = batches.waited
    for _ in range(10):
        time.sleep(0.05)  # the step
        next(batches)
    # Without prefetching, `next` would wait for all of the 0.3 seconds that the batches take.
    assert batches.waited - before < 0.15
    batches.close()


@pytest.mark.parametrize(("name", "value"), [("depth", 0), ("depth", True), ("group", -1), ("group", 1.0)])
def test_wrong_arguments_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} = {value}; allowed are integers of at least 1"):
        prefetch(Counting(), lambda batch: batch, **{name: value})
