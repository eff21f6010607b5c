import contextlib
import itertools
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from jaxdiff.data import (
    Digits,
    Entry,
    Examples,
    Field,
    Tfds,
    evaluation_batches,
    from_arrays,
    in_memory,
    select,
    training_batches,
)
from jaxdiff.data.pipelines import training_draw


def numbered(n: int):
    """A set in which example i, and its label, is the number i."""
    return from_arrays(x=np.arange(n, dtype=np.float32)[:, None], label=np.arange(n))


@pytest.fixture(scope="module")
def on_disk(swatches_dir):
    """60 random pictures of 6x6 pixels in two classes."""
    return Tfds("swatches/square", data_dir=swatches_dir).open()


def take(batches, count: int):
    return list(itertools.islice(batches, count))


def assert_equal(ours, theirs):
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            assert a[name].dtype == b[name].dtype
            np.testing.assert_array_equal(a[name], b[name])


def test_a_batch_holds_the_bytes_of_pictures_with_their_labels(on_disk):
    batch = next(training_batches(on_disk, 32, seed=0))
    assert list(batch) == list(on_disk.fields)
    assert (batch["picture"].shape, batch["picture"].dtype) == ((32, 6, 6, 3), np.uint8)
    assert (batch["label"].shape, batch["label"].dtype) == ((32,), np.int32)
    known = {record["picture"].tobytes(): record["label"] for record in on_disk.source}
    assert [known[picture.tobytes()] for picture in batch["picture"]] == batch["label"].tolist()


def test_entries_of_every_kind_stay_together():
    n = 12
    arrays = {
        "video": np.arange(n, dtype=np.uint8)[:, None, None, None, None] * np.ones((1, 2, 3, 3, 1), np.uint8),
        "points": np.arange(n, dtype=np.float32)[:, None, None] * np.ones((1, 4, 3), np.float32),
        "points_mask": np.arange(n)[:, None] % 2 == np.zeros((1, 4)),
        "ids": np.arange(n)[:, None] * np.ones((1, 5), np.int64),
    }
    fields = {
        "video": Field("video", (2, 3, 3, 1), "uint8", rate=4),
        "points": Field("points", (4, 3)),
        "ids": Field("values", (5,), "int32"),
    }
    examples = from_arrays(arrays, fields=fields)
    batch = next(training_batches(examples, n, seed=0))
    order = batch["ids"][:, 0]
    assert sorted(order.tolist()) == list(range(n))
    for name, field in examples.fields.items():
        assert batch[name].dtype == field.dtype
        np.testing.assert_array_equal(batch[name], arrays[name][order])
    # A batch is a copy: whoever changes it changes no data.
    batch["points"][:] = -1
    assert arrays["points"].min() == 0


def test_text_is_refused_by_name_and_taken_after_it_is_read():
    examples = from_arrays(caption=["a", "bb", "ccc"], x=np.zeros((3, 2)))
    for call in (
        lambda: training_batches(examples, 2, seed=0),
        lambda: evaluation_batches(examples, 2),
    ):
        with pytest.raises(ValueError, match="kind of the field 'caption' = 'text'; allowed are fields of numbers"):
            call()
    lengths = select(examples, {"length": Entry("caption", len, Field("values", (), "int32"))})
    assert_equal(list(evaluation_batches(lengths, 3)), [{"length": np.array([1, 2, 3], np.int32)}])


@pytest.mark.parametrize(("n", "batch_size"), [(103, 16), (103, 103), (96, 16), (5, 1)])
def test_every_epoch_holds_every_example_once_in_a_new_order(n, batch_size):
    batches = take(training_batches(numbered(n), batch_size, seed=7), -(-4 * n // batch_size))
    assert {len(b["x"]) for b in batches} == {batch_size}
    drawn = np.concatenate([b["label"] for b in batches])[: 4 * n].reshape(4, n)
    np.testing.assert_array_equal(np.sort(drawn), np.tile(np.arange(n), (4, 1)))
    assert len({epoch.tobytes() for epoch in drawn}) == 4
    assert not np.array_equal(drawn[0], np.arange(n))


def test_first_examples_are_uniform_over_seeds():
    # Over 2000 seeds each of 8 examples comes first about 250 times: chi-square, 7 degrees of freedom, probability 1e-6.
    examples = numbered(8)
    first = [training_draw(examples, 1, seed=seed, rows=None)(0)[0] for seed in range(2000)]
    counts = np.bincount(first, minlength=8)
    assert ((counts - 250) ** 2 / 250).sum() < 40.5


def test_neighbouring_seeds_share_no_epoch():
    epochs = [b["label"].tobytes() for seed in range(4) for b in take(training_batches(numbered(50), 50, seed=seed), 4)]
    assert len(set(epochs)) == 16


def test_batch_k_does_not_depend_on_the_way_to_it(on_disk):
    memory = in_memory(on_disk)
    straight = take(training_batches(memory, 8, seed=5), 16)  # more than two epochs
    assert_equal(take(training_batches(memory, 8, seed=5), 16), straight)
    for examples in (memory, on_disk):
        iterator = training_batches(examples, 8, seed=5)
        take(iterator, 6)
        state = json.loads(json.dumps(iterator.get_state()))
        assert_equal(take(iterator, 3), straight[6:9])
        fresh = training_batches(examples, 8, seed=5)
        fresh.set_state(state)
        assert_equal(take(fresh, 10), straight[6:])
        iterator.set_state(state)  # back to an earlier step
        assert_equal(take(iterator, 2), straight[6:8])


def test_rows_are_rows_of_the_whole_batch():
    digits = Digits().open()
    whole = take(training_batches(digits, 150, seed=1), 12)  # more than one epoch
    for rows in (range(75), range(100, 150), np.array([0, 1, 74, 75, 149])):
        part = take(training_batches(digits, 150, seed=1, rows=rows), 12)
        assert_equal(part, [{name: value[np.asarray(rows)] for name, value in batch.items()} for batch in whole])


def test_a_state_is_valid_for_other_rows():
    two = training_batches(numbered(40), 12, seed=2, rows=range(6, 12))
    take(two, 5)
    one = training_batches(numbered(40), 12, seed=2)
    one.set_state(two.get_state())
    assert_equal([{name: value[6:] for name, value in next(one).items()}], [next(two)])


@pytest.mark.parametrize("batch_size", [1, 10, 33, 100])
def test_evaluation_is_one_pass_in_order(batch_size):
    batches = list(evaluation_batches(numbered(33), batch_size))
    sizes = [len(b["x"]) for b in batches]
    assert sizes[:-1] == [batch_size] * (len(batches) - 1)
    assert 0 < sizes[-1] <= batch_size
    np.testing.assert_array_equal(np.concatenate([b["label"] for b in batches]), np.arange(33))
    np.testing.assert_array_equal(np.concatenate([b["x"][:, 0] for b in batches]), np.arange(33))


def test_evaluation_from_disk_equals_evaluation_from_memory(on_disk):
    assert_equal(list(evaluation_batches(on_disk, 25)), list(evaluation_batches(in_memory(on_disk), 25)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size = 0; allowed are integers of at least 1"),
        ({"batch_size": 2.0}, "batch_size = 2.0"),
        ({"batch_size": True}, "batch_size = True"),
        ({"batch_size": 11}, r"batch_size = 11; allowed are 1\.\.10, the size of the data set"),
        ({"batch_size": 4, "rows": [2, 4]}, r"rows = \[2, 4\]; allowed are ascending positions from 0 to 3"),
        ({"batch_size": 4, "rows": []}, r"rows = \[\]"),
        ({"batch_size": 4, "rows": [-1, 2]}, r"rows = \[-1, 2\]"),
        ({"batch_size": 4, "rows": [2, 1]}, r"rows = \[2, 1\]"),
        ({"batch_size": 4, "rows": [1.5]}, r"rows = \[1\.5\]"),
        ({"batch_size": 4, "seed": -1}, "seed = -1"),
        ({"batch_size": 4, "seed": 2**32}, "seed = 4294967296"),
        ({"batch_size": 4, "workers": -1}, "workers = -1"),
        ({"batch_size": 4, "workers": 1.0}, "workers = 1.0"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_read(arguments, message):
    with pytest.raises(ValueError, match=message):
        training_batches(numbered(10), **{"seed": 0, **arguments})


def test_evaluation_batch_size_is_checked():
    with pytest.raises(ValueError, match="batch_size = -1"):
        evaluation_batches(numbered(10), -1)


@pytest.mark.parametrize(
    "state", [None, {}, {"next": -1}, {"next": 1.0}, {"next": True}, {"next_index": 3}, {"next": 2**62 + 1}, 3]
)
def test_an_invalid_state_is_refused(state):
    batches = training_batches(numbered(10), 2, seed=0)
    next(batches)
    with pytest.raises(ValueError, match=r"state = .*; allowed are \{'next': k\} with k from 0"):
        batches.set_state(state)
    assert batches.get_state() == {"next": 1}


def test_evaluation_continues_from_a_state():
    batches = evaluation_batches(numbered(10), 4)
    next(batches)
    fresh = evaluation_batches(numbered(10), 4)
    fresh.set_state(batches.get_state())
    assert_equal(list(fresh), list(batches))
    assert fresh.get_state() == {"next": 3}
    with pytest.raises(StopIteration):
        next(fresh)


def grain_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("grain-prefetch")]


def wait_until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not so within {seconds} seconds"
        time.sleep(0.02)


@pytest.mark.parametrize("how", ["close", "forget"])
def test_no_thread_is_left(on_disk, how):
    wait_until(lambda: not grain_threads())
    batches = training_batches(on_disk, 8, seed=0)
    next(batches)
    assert grain_threads()
    if how == "close":
        batches.close()
        batches.close()
        with pytest.raises(ValueError, match="have been closed"):
            next(batches)
    else:
        del batches
    wait_until(lambda: not grain_threads())


def test_an_error_is_raised_for_its_batch_and_no_batch_is_lost():
    class Faulty:
        """A source whose record 17 cannot be read while `broken`."""

        broken = True

        def __len__(self):
            return 40

        def __getitem__(self, index, /):
            if self.broken and index == 17:
                raise ValueError("record 17 cannot be read")
            return {"x": np.full(1, index, np.uint8), "label": index}

    fields = {"x": Field("values", (1,), "uint8"), "label": Field("label", (), "int32", 40)}
    source = Faulty()
    batches = training_batches(Examples(source, fields), 4, seed=0)
    source.broken = False
    expected = take(training_batches(Examples(source, fields), 4, seed=0), 12)
    source.broken = True
    at = next(i for i, batch in enumerate(expected) if 17 in batch["label"])
    assert_equal(take(batches, at), expected[:at])
    for _ in range(2):
        with pytest.raises(ValueError, match="record 17 cannot be read"):
            next(batches)
        assert batches.get_state() == {"next": at}
    source.broken = False
    assert_equal(take(batches, 12 - at), expected[at:])
    batches.close()


def test_sets_in_memory_use_no_workers():
    batches = training_batches(Digits().open(), 32, seed=0, workers=3)
    next(batches)
    assert not multiprocessing.active_children()


def test_workers_read_the_same_batches_and_a_dead_worker_is_reported(on_disk):
    expected = take(training_batches(in_memory(on_disk), 8, seed=5), 29)
    batches = training_batches(on_disk, 8, seed=5, workers=2)
    batches.set_state({"next": np.int64(3)})
    assert not multiprocessing.active_children()  # nothing is started before it is needed
    assert_equal(take(batches, 5), expected[3:8])
    assert all(type(value) is np.ndarray for value in next(batches).values())
    assert batches.get_state() == {"next": 9}
    workers = multiprocessing.active_children()
    assert len(workers) == 2

    # Workers ignore the signals that a whole job gets.
    for worker in workers:
        os.kill(worker.pid, signal.SIGINT)
        os.kill(worker.pid, signal.SIGTERM)
    assert_equal(take(batches, 5), expected[9:14])

    os.kill(workers[0].pid, signal.SIGKILL)
    start = time.monotonic()

    # Up to five batches of the dead worker may still arrive: Grain keeps two in a queue between the processes, two in a
    # thread, and one in the hands of this thread. Six of the next twelve batches are its own.
    def read_on():
        for i in range(14, 26):
            assert_equal([next(batches)], [expected[i]])

    with pytest.raises(RuntimeError, match=r"batch \d+ could not be read by a worker process: .* exit code -9"):
        read_on()
    assert time.monotonic() - start < 40
    assert not multiprocessing.active_children()

    # No batch is lost, also with another number of workers.
    read = batches.get_state()["next"]
    assert 14 <= read < 26
    fresh = training_batches(on_disk, 8, seed=5)
    fresh.set_state(batches.get_state())
    assert_equal(take(fresh, 3), expected[read : read + 3])


TRAINER = """
import json, multiprocessing, sys, time
import numpy as np
from jaxdiff.data import Tfds, training_batches
if __name__ == "__main__":
    data_dir, state, out, end = sys.argv[1:]
    batches = training_batches(Tfds("swatches/square", data_dir=data_dir).open(), 8, seed=11, workers=1)
    batches.set_state(json.loads(state))
    np.savez(out, **{f"{name}{i}": value for i in range(10) for name, value in next(batches).items()})
    assert "tensorflow" not in sys.modules
    print(*[worker.pid for worker in multiprocessing.active_children()], flush=True)
    sys.exit() if end == "exit" else time.sleep(600)
"""


def is_running(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_another_process_continues_and_its_workers_end_with_it(on_disk, swatches_dir, tmp_path):
    iterator = training_batches(in_memory(on_disk), 8, seed=11)
    take(iterator, 13)
    state = json.dumps(iterator.get_state())
    expected = take(iterator, 10)
    script = tmp_path / "trainer.py"
    script.write_text(TRAINER)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, script, str(swatches_dir), state]
    trainers = {
        end: subprocess.Popen(
            [*command, tmp_path / f"{end}.npz", end], env=environment, stdout=subprocess.PIPE, text=True
        )
        for end in ("exit", "kill")
    }
    try:
        for end, trainer in trainers.items():
            workers = [int(pid) for pid in trainer.stdout.readline().split()]
            assert len(workers) == 1
            if end == "kill":
                trainer.kill()
            assert trainer.wait(60) == (-signal.SIGKILL if end == "kill" else 0)
            wait_until(lambda pids=workers: not any(is_running(pid) for pid in pids), 10)
            theirs = np.load(tmp_path / f"{end}.npz")
            assert_equal([{name: theirs[f"{name}{i}"] for name in ("picture", "label")} for i in range(10)], expected)
    finally:
        for trainer in trainers.values():
            trainer.kill()
            trainer.communicate()
