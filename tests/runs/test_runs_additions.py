"""New networks, objectives, conditions, codecs, data sets, guidance rules and models: one file and a preset each.

Every preset in `tests/additions` is trained, stopped half way, resumed, loaded from JSON, sampled and shown.
"""

import dataclasses
import importlib
import json
import os
import shutil

import jax
import numpy as np
import pytest
from run_settings import TOY

from jaxdiff.codecs import Codec
from jaxdiff.components import Part, from_json, to_json
from jaxdiff.models import AutoencoderModel, ClassifierModel, DiffusionModel
from jaxdiff.runs.config import Config
from jaxdiff.runs.load import load
from jaxdiff.runs.loop import train
from jaxdiff.runs.parts import Parts, open_file

# The largest part of its first value that the loss may have at the end.
ADDITIONS = {
    "dit": 0.6,
    "consistency": 0.8,
    "text": 0.85,
    "pretrained_text": 0.85,
    "latents": 0.7,
    "points": 0.96,
    "super_resolution": 0.8,
    "instruction": 0.8,
    "interval": 0.8,
    "noisy_classifier": 0.95,
    "latent_diffusion": 0.7,
    "joint": 0.85,
}


def losses(run):
    """The loss of every step."""
    return [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def make_parts(parts, directory):
    """Trains the runs, and writes the files and folders that a preset names."""
    for name, part in parts.items():
        if isinstance(part, Config):
            train(part, directory / name)
        elif callable(part):
            part(directory / name)
        else:
            np.savez(directory / name, **part)


@pytest.mark.usefixtures("compiled_once")
@pytest.mark.parametrize("name", ADDITIONS)
def test_an_addition_is_one_file(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(f"additions.{name}")
    config, whole, stopped = module.CONFIG, tmp_path / "whole", tmp_path / "stopped"
    make_parts(getattr(module, "PARTS", {}), tmp_path)
    assert from_json(Config, json.loads(json.dumps(to_json(config)))) == config
    model = train(config, whole)
    values = losses(whole)
    tenth = len(values) // 10
    assert np.mean(values[-tenth:]) < ADDITIONS[name] * np.mean(values[:tenth])

    # A run that is killed after half of its steps has the checkpoint of that step and nothing later.
    shutil.copytree(whole, stopped)
    shutil.rmtree(stopped / "checkpoints" / str(config.train.steps))
    again = train(config, stopped)
    for one, other in zip(jax.tree.leaves(model), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(one, other)
    assert losses(stopped) == values

    loaded = load(whole)
    for one, other in zip(jax.tree.leaves(model), jax.tree.leaves(loaded), strict=True):
        np.testing.assert_array_equal(one, other)
    assert jax.tree.structure(model) == jax.tree.structure(loaded)
    if isinstance(loaded, DiffusionModel):
        x = loaded.sample(jax.random.key(0), 3, **getattr(module, "ASKED", {}))
        assert all(np.isfinite(leaf).all() and len(leaf) == 3 for leaf in jax.tree.leaves(x))
        assert list((whole / "samples").glob("final*"))
    elif isinstance(loaded, ClassifierModel):
        examples = config.data.open()
        p = loaded.classify(np.stack([examples.source[i]["image"] for i in range(5)]))
        np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-5)
    else:
        assert isinstance(loaded, AutoencoderModel)


def test_another_part_is_refused_and_a_moved_part_is_taken(tmp_path, monkeypatch):
    """The part is a file of weights: `latents`."""
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module("additions.latents")
    config = dataclasses.replace(
        module.CONFIG, train=dataclasses.replace(module.CONFIG.train, steps=2, checkpoint_every=2)
    )
    make_parts(module.PARTS, tmp_path)
    before = train(config, "run")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "linear.npz").rename(tmp_path / "elsewhere" / "moved.npz")
    with pytest.raises(ValueError, match=r"model\.codec\.weights = '.*linear\.npz'; allowed are files .*--part"):
        load("run")
    loaded = load("run", parts={"weights": "elsewhere/moved.npz"})
    np.testing.assert_array_equal(loaded.frozen["codec"]["e"], before.frozen["codec"]["e"])
    train(config, "run", parts={"model.codec.weights": "elsewhere/moved.npz"})
    np.savez(tmp_path / "linear.npz", e=-module.PARTS["linear.npz"]["e"])
    for action in (lambda: train(config, "run"), lambda: load("run", parts={"weights": "linear.npz"})):
        with pytest.raises(ValueError, match=r"model\.codec\.weights = .*its weights are not those"):
            action()
    with pytest.raises(ValueError, match=r"part = 'wieghts'; allowed are .*did you mean 'model.codec.weights'"):
        load("run", parts={"wieghts": "linear.npz"})


@dataclasses.dataclass(frozen=True)
class Pair(Codec):
    """Names one file twice."""

    weights: Part = "one.npz"
    others: Part = "one.npz"


def test_settings_that_name_one_part_move_with_it(tmp_path):
    config = dataclasses.replace(TOY, model=dataclasses.replace(TOY.model, codec=Pair()))
    np.savez(tmp_path / "moved.npz", e=np.arange(3.0))
    parts = Parts(config, load, {"weights": tmp_path / "moved.npz"})
    assert set(parts.places) == {"model.codec.weights", "model.codec.others"}
    assert set(parts.places.values()) == {tmp_path / "moved.npz"}
    np.testing.assert_array_equal(parts.open("one.npz")["e"], np.arange(3.0))


BROKEN = {
    "empty": lambda data: b"",
    "cut": lambda data: data[:-30],
    "of a huge shape": lambda data: data.replace(b"(3,), }            ", b"(1000000000000,), }"),
}


@pytest.mark.parametrize("how", [*BROKEN, "a pipe"])
def test_a_broken_file_of_arrays_is_one_error_that_names_it(tmp_path, how):
    path = tmp_path / "broken.npz"
    if how == "a pipe":
        os.mkfifo(path)
    else:
        np.savez(path, e=np.arange(3.0))
        path.write_bytes(BROKEN[how](path.read_bytes()))
    with pytest.raises(
        ValueError,
        match=r"broken\.npz: cannot be read as a file of arrays|file of arrays = .*allowed are regular files",
    ):
        open_file(path, load)
