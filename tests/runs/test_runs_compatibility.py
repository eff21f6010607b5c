"""Which settings may change when a run is resumed; others are refused by name, and nothing is touched."""

import pytest
from run_settings import contents, replaced

from jaxdiff.networks import MLP, UNet
from jaxdiff.runs.compatibility import open_or_create
from jaxdiff.runs.config import Config, DataConfig
from jaxdiff.runs.data_spec import DataSpec
from jaxdiff.runs.directory import Run, create_run, write_config
from jaxdiff.runs.settings import saved_settings

SPEC = DataSpec((2,), 8, tuple("abcdefgh"))
TOY = Config(data=DataConfig("gaussians"), network=MLP(width=16, num_blocks=1))
COSINE = replaced(TOY, optimizer__schedule="cosine")


def saved(directory, config=TOY):
    run = create_run(directory)
    write_config(run, saved_settings(config, SPEC))
    return run


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"network__width": 24}, ["network.width was 16, is 24"]),
        ({"optimizer__learning_rate": 2e-3}, ["optimizer.learning_rate was 0.001, is 0.002"]),
        ({"train__seed": 1}, ["train.seed was 0, is 1"]),
        (
            {"train__batch_size": 64, "diffusion__times": "uniform"},
            ["train.batch_size was 128, is 64", "diffusion.times was stratified, is uniform"],
        ),
        ({"data__name": "moons"}, ["data.name was gaussians, is moons"]),
        ({"diffusion__process_options": {"shift": 2.0}}, ["diffusion.process_options.shift was None, is 2.0"]),
        ({"network": UNet()}, ["network.channels was None, is 128"]),
    ],
)
def test_other_settings_are_refused_by_name(tmp_path, settings, named):
    saved(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=r"holds a run with other settings: .*; choose another directory") as error:
        open_or_create(tmp_path, replaced(TOY, **settings), SPEC)
    assert contents(tmp_path) == before
    assert "\n" not in str(error.value)
    for words in named:
        assert words in str(error.value)


def test_other_data_are_refused_by_name(tmp_path):
    saved(tmp_path)
    with pytest.raises(ValueError, match="num_classes was 8, is 0"):
        open_or_create(tmp_path, TOY, DataSpec((2,)))


@pytest.mark.parametrize(
    "settings",
    [
        {"train__log_every": 7, "train__checkpoint_every": 9, "train__keep": 5, "train__sample_every": 0},
        {"train__steps": 2000},
        {"data__placement": "disk", "data__data_dir": "elsewhere"},
        {"parallel__fsdp": 8, "parallel__accumulate": 2, "log__profile": (1, 2)},
    ],
)
def test_reports_length_and_devices_may_change(tmp_path, settings):
    run = saved(tmp_path)
    assert open_or_create(tmp_path, replaced(TOY, **settings), SPEC) == run


@pytest.mark.parametrize("steps", [999, 1001])
def test_a_run_with_a_cosine_keeps_its_length(tmp_path, steps):
    """The steps made already of a longer run would have had other learning rates."""
    saved(tmp_path, COSINE)
    with pytest.raises(ValueError, match=rf"train\.steps was 1000, is {steps}; choose another directory"):
        open_or_create(tmp_path, replaced(COSINE, train__steps=steps), SPEC)
    open_or_create(tmp_path, replaced(COSINE, train__log_every=1), SPEC)


def test_a_folder_of_pictures_keeps_its_place(tmp_path):
    folder = replaced(TOY, data=DataConfig("folder", data_dir="here"))
    saved(tmp_path, folder)
    with pytest.raises(ValueError, match=r"data\.data_dir was here, is there"):
        open_or_create(tmp_path, replaced(folder, data__data_dir="there"), SPEC)


@pytest.mark.parametrize("text", ["{}", '{"config": {}}', '{"model": "other", "config": {}, "data": {}}'])
def test_a_directory_of_another_program_is_left_as_it_is(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config\.json: is not the configuration of a run"):
        open_or_create(tmp_path, TOY, SPEC)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_a_new_directory_is_made(tmp_path):
    run = open_or_create(tmp_path / "new", TOY, SPEC)
    assert run == Run(tmp_path / "new")
    assert run.checkpoints.is_dir()
