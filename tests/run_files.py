"""Readers of the files of a run, and changes of the batches that a run reads."""

import json

import jax
import numpy as np
from PIL import Image

from jaxdiff import data
from jaxdiff.runs.checkpoints import Checkpoints

RATES = {"time", "images_per_second", "data_wait"}  # these differ between any two runs


def steps(run):
    """The steps of the checkpoints."""
    with Checkpoints(run / "checkpoints") as checkpoints:
        return checkpoints.steps()


def final_state(run):
    """`(step, name -> array)` of the last checkpoint, with everything that it holds."""
    with Checkpoints(run / "checkpoints") as checkpoints:
        step, parts, _ = checkpoints.restore_parts()
    assert {"params", "opt_state", "ema", "step", "key", "skipped", "consecutive_skips"} <= set(parts)
    assert set(parts) <= {"params", "opt_state", "ema", "step", "key", "skipped", "consecutive_skips", "extra"}
    parts["key"] = jax.random.key_data(parts["key"])
    return step, {jax.tree_util.keystr(k): np.asarray(v) for k, v in jax.tree_util.tree_leaves_with_path(parts)}


def metrics(run):
    """The lines of metrics without the rates."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in RATES} for line in lines]


def assert_same_run(run, reference):
    """Asserts that both runs agree to the bit in their states, metrics and pictures."""
    (step, state), (wanted_step, wanted) = final_state(run), final_state(reference)
    assert step == wanted_step
    assert list(state) == list(wanted)
    for name, leaf in state.items():
        assert leaf.dtype == wanted[name].dtype, name
        assert leaf.tobytes() == wanted[name].tobytes(), name
    assert metrics(run) == metrics(reference)
    pictures = sorted(path.name for path in (reference / "samples").iterdir())
    assert sorted(path.name for path in (run / "samples").iterdir()) == pictures
    for name in pictures:
        assert picture(run / "samples" / name) == picture(reference / "samples" / name), name


def picture(path):
    """The pixels of a picture to the bit, and its origin without the name of the run, which is that of a directory."""
    with Image.open(path) as image:
        return image.mode, image.size, image.tobytes(), {**origin_of(path), "run": ""}


def origin_of(path):
    """The origin that a picture carries."""
    with Image.open(path) as image:
        return json.loads(image.text["jaxdiff"])


class Changed:
    """Batches with a function applied to each: `change(number, batch)`, where the first batch of a run is number 1."""

    def __init__(self, batches, change):
        self.batches, self.change = batches, change

    def __next__(self):
        number = self.batches.get_state()["next"] + 1
        return self.change(number, next(self.batches))

    def __getattr__(self, name):
        return getattr(self.batches, name)


def change_batches(monkeypatch, change):
    """Changes the batches of training."""
    make = data.training_batches
    monkeypatch.setattr(data, "training_batches", lambda *args, **options: Changed(make(*args, **options), change))


def act_at(monkeypatch, at, action):
    """Calls `action` when batch `at` is read. The loop reads at most three batches ahead of the step."""

    def change(number, batch):
        if number == at:
            action()
        return batch

    change_batches(monkeypatch, change)
