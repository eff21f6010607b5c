"""Which settings may change when a run is resumed; others are refused by name, and nothing is touched."""

from pathlib import Path

import numpy as np
import pytest
from run_settings import TOY, contents, replaced

from jaxdiff import processes
from jaxdiff.augmentations import Flip
from jaxdiff.components import Table, choose, to_json
from jaxdiff.data import Digits, Folder
from jaxdiff.data.fields import Field
from jaxdiff.models import Sampling
from jaxdiff.networks import UNet
from jaxdiff.objectives import Denoising, times
from jaxdiff.runs.checkpoints import Checkpoints, manifest
from jaxdiff.runs.compatibility import free_settings, open_or_create
from jaxdiff.runs.directory import Run, create_run, write_config
from jaxdiff.runs.facts import Facts
from jaxdiff.runs.settings import saved_settings

FACTS = Facts(Table(x=Field("values", (2,)), label=Field("label", (), "int32", 8)), "12ab")
COSINE = replaced(TOY, optimizer__schedule="cosine")
PICTURES = replaced(TOY, data=Folder("here", size=8))


def saved(directory, config=TOY, facts=FACTS):
    run = create_run(directory)
    write_config(run, saved_settings(config, facts, run, {}))
    return run


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"model__network__width": 24}, ["model.network.width was 16, is 24"]),
        ({"optimizer__learning_rate": 2e-4}, ["optimizer.learning_rate was 0.002, is 0.0002"]),
        ({"train__seed": 1}, ["train.seed was 0, is 1"]),
        (
            {"train__batch_size": 64, "objective": Denoising(times=choose(times.uniform))},
            ["train.batch_size was 32, is 64", "objective.times.kind was stratified, is uniform"],
        ),
        (
            {"model__process": choose(processes.vp_cosine, shift=2.0)},
            ["settings: model.process.kind was flow, is vp_cosine; choose"],
        ),
        ({"model__network": UNet()}, ["settings: model.network.kind was MLP, is UNet; choose"]),
        ({"model__conditions": {}}, ["settings: model.conditions.label was Label, is none; choose"]),
        ({"augmentations": (Flip(),)}, ["settings: augmentations.0 was none, is Flip; choose"]),
        ({"train__ema_widths": (0.1,)}, ["settings: train.ema_widths was none, is [0.1]; choose"]),
        ({"train__held_out": 10}, ["train.held_out was 0, is 10"]),
        ({"objective__learned_weighting": True}, ["objective.learned_weighting was False, is True"]),
    ],
)
def test_other_settings_are_refused_by_name(tmp_path, settings, named):
    saved(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=r"holds a run with other settings: .*; choose another directory") as error:
        open_or_create(tmp_path, replaced(TOY, **settings), FACTS, {})
    assert contents(tmp_path) == before
    assert "\n" not in str(error.value)
    for words in named:
        assert words in str(error.value)


@pytest.mark.parametrize("place", ["checkpoints", "snapshots"])
@pytest.mark.parametrize("lost", [True, False])
def test_a_checkpoint_says_of_which_run_it_is_where_config_json_does_not(tmp_path, place, lost):
    """That file is lost, or it is the file of another run."""
    run = create_run(tmp_path)
    with Checkpoints(tmp_path / place) as checkpoints:
        checkpoints.save(5800, {"w": np.ones(3)}, config=saved_settings(TOY, FACTS, run, {}))
    other = replaced(TOY, train__seed=1)
    if not lost:
        saved(tmp_path, other)
    with pytest.raises(ValueError, match=r"holds a run with other settings: train\.seed was 0, is 1"):
        open_or_create(tmp_path, other, FACTS, {})
    (tmp_path / "config.json").unlink(missing_ok=True)
    open_or_create(tmp_path, TOY, FACTS, {})


def test_a_malformed_checkpoint_says_nothing_and_the_one_before_is_asked(tmp_path):
    run = create_run(tmp_path)
    with Checkpoints(run.checkpoints) as checkpoints:
        checkpoints.save(1, {"w": np.ones(3)}, config=saved_settings(TOY, FACTS, run, {}))
        checkpoints.save(2, {"w": np.ones(3)})
    malformed = run.checkpoints / "2"
    (malformed / "meta.json").write_text("[[]]")
    (malformed / "manifest.json").unlink()
    manifest.write(malformed)
    with pytest.raises(ValueError, match=r"train\.seed was 0, is 1"):
        open_or_create(tmp_path, replaced(TOY, train__seed=1), FACTS, {})


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (Facts(FACTS.fields, "34cd"), "the checksum of the data was 12ab, is 34cd"),
        (
            Facts(Table(FACTS.fields | {"label": Field("label", (), "int32", 9)}), FACTS.identity),
            "the fields of the data are others",
        ),
    ],
)
def test_other_data_are_refused_wherever_they_lie(tmp_path, facts, words):
    saved(tmp_path, PICTURES)
    before = contents(tmp_path)
    for place in ("here", "there"):
        with pytest.raises(ValueError, match=f"{words}; choose another directory") as error:
            open_or_create(tmp_path, replaced(PICTURES, data__path=place), facts, {})
        assert "\n" not in str(error.value)
        assert ("data.path was here, is there" in str(error.value)) == (place == "there")
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "settings",
    [
        {"train__log_every": 7, "train__checkpoint_every": 9, "train__keep": 5, "train__sample_every": 0},
        {"train__keep_every": 7, "train__keep_best": 2, "train__snapshot_every": 0, "train__validate_every": 0},
        {"train__steps": 2000},
        {"train__start_from": "elsewhere"},
        {"loading__placement": "disk", "loading__workers": 2},
        {"parallel__fsdp": 8, "parallel__accumulate": 2, "log__profile": (1, 2)},
        {"sample": Sampling(steps=7)},
        {"validation": Digits(split="test"), "train__validate_every": 10},
        {"data": Folder("there", size=8)},
    ],
)
def test_reports_length_devices_and_places_may_change(tmp_path, settings):
    run = saved(tmp_path, PICTURES)
    assert open_or_create(tmp_path, replaced(PICTURES, **settings), FACTS, {}) == run


def test_every_free_setting_exists():
    """A name that no setting has would free nothing."""
    config = replaced(PICTURES, model__network=UNet())
    paths, tree = free_settings(config), to_json(config)
    assert {"train.steps", "model.network.remat"} <= paths
    for path in paths:
        place = tree
        for name in path.split("."):
            assert name in place, path
            place = place[name]


@pytest.mark.parametrize("steps", [209, 211])
def test_a_run_with_a_cosine_keeps_its_length(tmp_path, steps):
    """The steps made already of a longer run would have had other learning rates."""
    saved(tmp_path, COSINE)
    with pytest.raises(ValueError, match=rf"train\.steps was 210, is {steps}; choose another directory"):
        open_or_create(tmp_path, replaced(COSINE, train__steps=steps), FACTS, {})
    open_or_create(tmp_path, replaced(COSINE, train__log_every=1), FACTS, {})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{}", "is not the configuration of a run"),
        ('{"config": {}}', "is not the configuration of a run"),
        ('{"model": "other", "config": {}, "data": {}}', "is not the configuration of a run"),
        ('{"config": {"data": {"name": "digits"}}, "data": {"shape": [2]}}', "is of an older version"),
        ('{"format": 3, "config": {}, "data": {}, "places": {}, "imports": []}', "is not the configuration of a run"),
    ],
)
def test_a_directory_of_another_program_or_version_is_left_as_it_is(tmp_path, text, words):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=rf"config\.json: {words}; .*train the run again") as error:
        open_or_create(tmp_path, TOY, FACTS, {})
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_another_part_is_refused(tmp_path):
    saved(tmp_path, facts=Facts(FACTS.fields, FACTS.identity, Table({"model.codec.weights": "1234"})))
    now = Facts(FACTS.fields, FACTS.identity, Table({"model.codec.weights": "5678"}))
    with pytest.raises(ValueError, match=r"model\.codec\.weights = '/w\.npz': its weights are not those"):
        open_or_create(tmp_path, TOY, now, {"model.codec.weights": Path("/w.npz")})


def test_a_new_directory_is_made(tmp_path):
    run = open_or_create(tmp_path / "new", TOY, FACTS, {})
    assert run == Run(tmp_path / "new")
    assert run.checkpoints.is_dir()
