import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from sklearn.datasets import load_digits

from jaxdiff.data import Digits, in_memory, open_tfds, prepare_digits
from jaxdiff.data.digits import levels_to_pixels, pixels_to_levels

REAL = load_digits()


def python(code: str, *arguments: object) -> "subprocess.Popen[str]":
    """Runs `code` in a fresh process with this checkout on its path."""
    checkout = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([checkout, os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-W", "default", "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def assert_complete(root: Path) -> None:
    train, test = (open_tfds("digits", split, root) for split in ("train", "test"))
    assert (len(train), len(test)) == (1438, 359)
    labels = sorted([r["label"] for r in train.source] + [r["label"] for r in test.source])
    assert labels == sorted(REAL.target.tolist())


def test_levels_map_reversibly_over_the_whole_range():
    levels = np.arange(17)
    pixels = levels_to_pixels(levels)
    assert pixels.dtype == np.uint8
    assert (pixels[0], pixels[16]) == (0, 255)
    assert (np.diff(pixels.astype(int)) > 0).all()
    np.testing.assert_array_equal(pixels_to_levels(pixels), levels)


def test_splits_hold_scikit_learns_digits_exactly(digits_dir):
    is_test = np.arange(1797) % 5 == 4
    for split, rows in (("train", ~is_test), ("test", is_test)):
        images = open_tfds("digits", split, digits_dir)
        assert images.shape == (8, 8, 1)
        assert images.num_classes == 10
        assert images.class_names == tuple("0123456789")
        records = [images.source[i] for i in range(len(images))]
        levels = pixels_to_levels(np.stack([r["image"][..., 0] for r in records]))
        np.testing.assert_array_equal(levels, REAL.images[rows])
        np.testing.assert_array_equal([r["label"] for r in records], REAL.target[rows])


def test_split_expressions_partition_the_set(digits_dir):
    parts = [in_memory(open_tfds("digits", split, digits_dir)) for split in ("train[:70%]", "train[70%:]", "test")]
    assert sum(map(len, parts)) == 1797
    whole = in_memory(open_tfds("digits", "train+test", digits_dir))
    np.testing.assert_array_equal(np.concatenate([p.source.x for p in parts]), whole.source.x)


def test_it_is_a_builder_that_tfds_itself_reads(digits_dir):
    builder = tfds.builder("digits", data_dir=digits_dir)
    assert isinstance(builder, Digits)
    assert builder.is_prepared()
    ours = open_tfds("digits", "test", digits_dir).source
    for i, theirs in enumerate(builder.as_data_source("test")):
        np.testing.assert_array_equal(theirs["image"], ours[i]["image"])
        assert theirs["label"] == ours[i]["label"]


def test_builder_writes_array_records_by_itself(tmp_path):
    tfds.builder("digits", data_dir=tmp_path).download_and_prepare()
    assert_complete(tmp_path)


PREPARE = """
import sys, time
from pathlib import Path
from jaxdiff.data import open_tfds
root, ready, go = map(Path, sys.argv[1:])
ready.touch()
while not go.exists():
    time.sleep(0.002)
images = open_tfds("digits", "test", root)
assert "tensorflow" not in sys.modules
print(len(images))
"""


def test_processes_may_prepare_at_once_and_say_nothing(tmp_path):
    root, go = tmp_path / "tfds", tmp_path / "go"
    ready = [tmp_path / f"ready{i}" for i in range(2)]
    processes = [python(PREPARE, root, r, go) for r in ready]
    while not all(r.exists() for r in ready) and all(p.poll() is None for p in processes):
        time.sleep(0.01)
    go.touch()
    for process in processes:
        out, err = process.communicate(timeout=300)
        assert (process.returncode, out, err) == (0, "359\n", "")
    assert os.listdir(root) == ["digits"]  # no staging directories, no downloads
    assert_complete(root)


def test_losing_the_race_is_as_good_as_winning(tmp_path, monkeypatch):
    rename = os.rename

    def beaten(source, destination):
        monkeypatch.setattr(os, "rename", rename)
        prepare_digits(tmp_path)
        rename(source, destination)

    monkeypatch.setattr(os, "rename", beaten)
    prepare_digits(tmp_path)
    assert os.listdir(tmp_path) == ["digits"]
    assert_complete(tmp_path)


KILLED = """
import os, signal, sys
from jaxdiff.data.digits import Digits, prepare_digits
generate = Digits._generate_examples
def die_midway(self, pixels, labels):
    for i, example in generate(self, pixels, labels):
        if i == 100:
            os.kill(os.getpid(), signal.SIGKILL)
        yield i, example
Digits._generate_examples = die_midway
prepare_digits(sys.argv[1])
"""


def test_a_killed_preparation_is_no_obstacle(tmp_path):
    process = python(KILLED, tmp_path)
    process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL
    assert len(os.listdir(tmp_path)) == 2  # it did get as far as writing
    with pytest.raises(ValueError, match="not prepared"):
        # Whatever is left is not taken for a data set.
        open_tfds("mnist", data_dir=tmp_path)
    assert_complete(tmp_path)


def test_an_interrupted_preparation_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(self, pixels, labels):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(Digits, "_generate_examples", interrupt)
    with pytest.raises(KeyboardInterrupt):
        prepare_digits(tmp_path)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []
    monkeypatch.undo()
    assert_complete(tmp_path)


def test_what_is_not_the_digits_set_is_left_alone_and_named(tmp_path):
    stranger = tmp_path / "digits" / "1.0.0" / "notes.txt"
    stranger.parent.mkdir(parents=True)
    stranger.write_text("mine")
    with pytest.raises(ValueError, match=r"1\.0\.0 is there but is not the complete digits set; remove it"):
        prepare_digits(tmp_path)
    assert stranger.read_text() == "mine"


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"file/below.*cannot be written there"):
        open_tfds("digits", data_dir=tmp_path / "file" / "below")
