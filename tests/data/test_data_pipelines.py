import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxdiff.data import evaluation_batches, from_arrays, in_memory, open_tfds, to_unit, training_batches


def numbered(n: int):
    """A set whose every example is its own number."""
    return from_arrays(np.arange(n, dtype=np.float32)[:, None], np.arange(n))


def take(batches, count: int):
    return list(itertools.islice(batches, count))


def assert_equal(ours, theirs):
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            assert a[name].dtype == b[name].dtype
            np.testing.assert_array_equal(a[name], b[name])


def test_batches_are_what_they_should_be(digits_dir):
    images = open_tfds("digits", data_dir=digits_dir)
    batch = next(training_batches(images, 32, seed=0))
    assert batch["x"].shape == (32, 8, 8, 1)
    assert batch["x"].dtype == np.float32
    assert (batch["x"].min(), batch["x"].max()) == (-1, 1)
    assert batch["cond"].shape == (32,)
    assert batch["cond"].dtype == np.int32
    # Each picture goes with its own label.
    known = {to_unit(r["image"]).tobytes(): r["label"] for r in images.source}
    assert [known[x.tobytes()] for x in batch["x"]] == batch["cond"].tolist()


def test_unlabelled_floating_point_data_pass_unchanged():
    points = np.random.default_rng(0).normal(scale=5, size=(10, 3)).astype(np.float32)
    batch = next(training_batches(from_arrays(points), 10, seed=0))
    assert set(batch) == {"x"}
    np.testing.assert_array_equal(np.sort(batch["x"], axis=0), np.sort(points, axis=0))


@pytest.mark.parametrize(("n", "batch_size"), [(103, 16), (103, 103), (96, 16), (5, 1)])
def test_every_epoch_holds_everything_once_in_a_new_order(n, batch_size):
    batches = take(training_batches(numbered(n), batch_size, seed=7), -(-4 * n // batch_size))
    assert {len(b["x"]) for b in batches} == {batch_size}
    drawn = np.concatenate([b["cond"] for b in batches])[: 4 * n].reshape(4, n)
    np.testing.assert_array_equal(np.sort(drawn), np.tile(np.arange(n), (4, 1)))
    assert len({epoch.tobytes() for epoch in drawn}) == 4
    assert not np.array_equal(drawn[0], np.arange(n))


def test_first_places_are_shared_out_evenly():
    # Over 2000 seeds each of 8 comes first about 250 times: chi-square, 7 degrees of freedom, one in a million.
    first = [int(next(training_batches(numbered(8), 1, seed=seed))["cond"][0]) for seed in range(2000)]
    counts = np.bincount(first, minlength=8)
    assert ((counts - 250) ** 2 / 250).sum() < 40.5


def test_neighbouring_seeds_share_no_epoch():
    epochs = [b["cond"].tobytes() for seed in range(4) for b in take(training_batches(numbered(50), 50, seed=seed), 4)]
    assert len(set(epochs)) == 16


def test_batch_k_is_the_same_however_one_gets_there(digits_dir):
    on_disk = open_tfds("digits", data_dir=digits_dir)
    memory = in_memory(on_disk)
    straight = take(training_batches(memory, 200, seed=5, flip=True), 16)  # more than two epochs
    assert_equal(take(training_batches(memory, 200, seed=5, flip=True), 16), straight)
    for images in (memory, on_disk):
        iterator = training_batches(images, 200, seed=5, flip=True)
        take(iterator, 6)
        state = json.loads(json.dumps(iterator.get_state()))
        assert_equal(take(iterator, 3), straight[6:9])
        fresh = training_batches(images, 200, seed=5, flip=True)
        fresh.set_state(state)
        assert_equal(take(fresh, 10), straight[6:])
        iterator.set_state(state)  # back to where it was
        assert_equal(take(iterator, 2), straight[6:8])


ELSEWHERE = """
import json, sys
import numpy as np
from jaxdiff.data import in_memory, open_tfds, training_batches
data_dir, state, out = sys.argv[1:]
iterator = training_batches(open_tfds("digits", data_dir=data_dir), 96, seed=11, flip=True)
iterator.set_state(json.loads(state))
np.savez(out, **{f"{name}{i}": value for i in range(20) for name, value in next(iterator).items()})
assert "tensorflow" not in sys.modules
"""


def test_another_process_goes_on_where_this_one_stopped(digits_dir, tmp_path):
    iterator = training_batches(in_memory(open_tfds("digits", data_dir=digits_dir)), 96, seed=11, flip=True)
    take(iterator, 13)
    arguments = [str(digits_dir), json.dumps(iterator.get_state()), str(tmp_path / "batches.npz")]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", ELSEWHERE, *arguments], check=True, env=environment, timeout=300)
    theirs = np.load(arguments[-1])
    for i, ours in enumerate(take(iterator, 20)):
        np.testing.assert_array_equal(theirs[f"x{i}"], ours["x"])
        np.testing.assert_array_equal(theirs[f"cond{i}"], ours["cond"])


@pytest.mark.parametrize("count", [2, 3])
def test_shards_make_up_the_global_batch(digits_dir, count):
    images = in_memory(open_tfds("digits", data_dir=digits_dir))
    whole = take(training_batches(images, 150, seed=1, flip=True), 12)
    shards = [take(training_batches(images, 150, seed=1, flip=True, shard=(i, count)), 12) for i in range(count)]
    joined = [
        {name: np.concatenate([p[name] for p in parts]) for name in parts[0]} for parts in zip(*shards, strict=True)
    ]
    assert_equal(joined, whole)


def test_a_state_serves_another_number_of_shards():
    two = training_batches(numbered(40), 12, seed=2, shard=(1, 2))
    take(two, 5)
    one = training_batches(numbered(40), 12, seed=2)
    one.set_state(two.get_state())
    assert_equal([{name: value[6:] for name, value in next(one).items()}], [next(two)])


def test_flip_mirrors_half_the_images_along_their_width_only():
    n = 2000
    pixels = np.random.default_rng(0).integers(0, 256, (n, 3, 4, 2), np.uint8)
    images = from_arrays(pixels, np.arange(n))
    batch = next(training_batches(images, n, seed=3, flip=True))
    original = to_unit(pixels)[batch["cond"]]
    kept = (batch["x"] == original).all((1, 2, 3))
    mirrored = (batch["x"] == original[:, :, ::-1]).all((1, 2, 3))
    np.testing.assert_array_equal(kept, ~mirrored)
    assert abs(mirrored.mean() - 0.5) < 5 * 0.5 / np.sqrt(n)
    # The order is that of the unflipped run, another step draws other flips, and the set itself is untouched.
    np.testing.assert_array_equal(next(training_batches(images, n, seed=3))["cond"], batch["cond"])
    first, second = take(training_batches(from_arrays(pixels[:1].repeat(400, 0)), 400, seed=3, flip=True), 2)
    assert not np.array_equal(first["x"], second["x"])
    np.testing.assert_array_equal(pixels, np.random.default_rng(0).integers(0, 256, (n, 3, 4, 2), np.uint8))


@pytest.mark.parametrize("batch_size", [1, 10, 33, 100])
def test_evaluation_is_one_pass_in_order(batch_size):
    batches = list(evaluation_batches(numbered(33), batch_size))
    sizes = [len(b["x"]) for b in batches]
    assert sizes[:-1] == [batch_size] * (len(batches) - 1)
    assert 0 < sizes[-1] <= batch_size
    np.testing.assert_array_equal(np.concatenate([b["cond"] for b in batches]), np.arange(33))
    np.testing.assert_array_equal(np.concatenate([b["x"][:, 0] for b in batches]), np.arange(33))


def test_evaluation_from_disk_is_evaluation_from_memory(digits_dir):
    images = open_tfds("digits", "test", digits_dir)
    assert_equal(list(evaluation_batches(images, 100)), list(evaluation_batches(in_memory(images), 100)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size = 0 is not allowed; allowed are positive integers"),
        ({"batch_size": 2.0}, "batch_size = 2.0"),
        ({"batch_size": True}, "batch_size = True"),
        ({"batch_size": 11}, r"batch_size = 11 exceeds the data set; allowed are 1..10"),
        ({"batch_size": 5, "shard": (0, 2)}, "batch_size = 5 is not divisible by the 2 shards"),
        ({"batch_size": 4, "shard": (2, 2)}, r"shard = \(2, 2\)"),
        ({"batch_size": 4, "shard": (0, 0)}, r"shard = \(0, 0\)"),
        ({"batch_size": 4, "seed": -1}, "seed = -1"),
        ({"batch_size": 4, "seed": 2**32}, "seed = 4294967296"),
        ({"batch_size": 4, "flip": True}, r"flip = True needs images.*\(1,\)"),
    ],
)
def test_wrong_arguments_are_named_before_anything_is_read(arguments, message):
    with pytest.raises(ValueError, match=message):
        training_batches(numbered(10), **{"seed": 0, **arguments})


def test_evaluation_batch_size_is_checked():
    with pytest.raises(ValueError, match="batch_size = -1"):
        evaluation_batches(numbered(10), -1)
