"""Settings go through JSON unchanged, and wrong settings are refused in one line."""

import json
from pathlib import Path

import pytest

from jaxdiff.networks import MLP, Fourier, UNet
from jaxdiff.presets import NAMES, open_preset
from jaxdiff.runs.config import Config, DataConfig, SampleConfig, TrainConfig
from jaxdiff.runs.config_checks import check
from jaxdiff.runs.config_json import from_json, to_json

ROOT = Path(__file__).resolve().parents[2]

CONFIGS = {
    **{name: open_preset(name).config for name in NAMES},
    **{path.stem: open_preset(str(path)).config for path in (ROOT / "configs").glob("*.py")},
    "options": Config(
        data=DataConfig("folder", data_dir="pictures", size=8),
        network=UNet(
            embedding=Fourier(scale=2.0), resampling="residual", resample_filter=(1, 3, 3, 1), head_channels=4
        ),
        sample=SampleConfig(
            "dpm_solver_pp", {"order": 3}, "uniform_log_snr", {"log_snr_min": -12, "log_snr_max": 9.5}, 7, guidance=2.0
        ),
    ),
    "mlp": Config(data=DataConfig("moons"), network=MLP(width=8, embedding=Fourier(seed=3), dtype="bfloat16")),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_settings_go_through_json(name):
    config = CONFIGS[name]
    again = from_json(json.loads(json.dumps(to_json(config))))
    assert again == config
    assert type(again.network) is type(config.network)
    assert hash(again.network) == hash(config.network)
    assert to_json(again) == to_json(config)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("trian", {}, ["unknown setting trian", "did you mean 'train'?"]),
        ("train.stepps", 3, ["unknown setting stepps", "did you mean 'steps'?"]),
        ("network.chanels", 3, ["unknown setting chanels", "did you mean 'channels'?"]),
        ("network.width", 3, ["unknown setting width"]),  # the other network's
        ("network.embedding.max_perod", 3, ["embedding"]),
        ("network.channels", "8", ["channels", "int", '"8"']),
        ("network", 3, ["network"]),
        ("train.steps", "many", ["train.steps", "int", '"many"']),
        ("train.steps", 2.5, ["train.steps", "int"]),
        ("train.steps", 0, ["steps = 0"]),
        ("train", 3, ["train", "TrainConfig"]),
        ("data.flip", "yes", ["data.flip", "bool"]),
        ("diffusion.process", "vp_cosin", ["diffusion.process", '"vp_cosin"']),
        ("diffusion.process_options", {"shift": [1]}, ["diffusion.process_options"]),
        ("diffusion.process_options", {"shfit": 1.0}, ["process_options = {'shfit': 1.0}"]),
        ("diffusion.label_dropout", 1.5, ["label_dropout = 1.5"]),
        ("optimizer.learning_rate", -1.0, ["learning_rate = -1.0"]),
        ("optimizer.beta2", 1.0, ["beta2 = 1.0"]),
        ("train.seed", 2**32, ["seed = 4294967296"]),
        ("sample.grid", "discrete", ["discrete"]),
        ("sample.steps", -1, ["steps = -1"]),
    ],
)
def test_wrong_settings_are_one_line_that_names_them(path, value, words):
    values = to_json(Config())
    *parents, last = path.split(".")
    place = values
    for parent in parents:
        place = place[parent]
    place[last] = value
    with pytest.raises((ValueError, TypeError)) as error:
        check(from_json(values))
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


def test_settings_left_out_are_the_defaults():
    assert from_json({}) == Config()
    assert from_json({"train": {"steps": 7}}) == Config(train=TrainConfig(steps=7))
