"""Settings go through JSON unchanged, and wrong settings are refused in one line."""

import dataclasses
import json
from pathlib import Path

import pytest
from run_settings import TOY

from jaxdiff import grids, parametrizations, processes, solvers
from jaxdiff.augmentations import Flip
from jaxdiff.components import Table, choose, from_json, to_json
from jaxdiff.conditions import Label, Text
from jaxdiff.data import Folder, Toy
from jaxdiff.guidance import ClassifierFree
from jaxdiff.models import Classifier, Diffusion, Embedding, Sampling
from jaxdiff.networks import MLP, Fourier, UNet
from jaxdiff.objectives import Contrastive, CrossEntropy
from jaxdiff.presets import NAMES, open_preset
from jaxdiff.runs.config import Config, ParallelConfig, TrainConfig
from jaxdiff.runs.config_checks import check
from jaxdiff.runs.facts import Facts

ROOT = Path(__file__).resolve().parents[2]

CONFIGS = {
    **{name: open_preset(name).config for name in NAMES},
    **{path.stem: open_preset(str(path)).config for path in (ROOT / "configs").glob("*.py")},
    "options": Config(
        data=Folder("pictures", size=8),
        validation=Folder("others", size=8),
        augmentations=(Flip(), Flip("other")),
        model=Diffusion(
            network=UNet(
                embedding=Fourier(scale=2.0), resampling="residual", resample_filter=(1, 3, 3, 1), head_channels=4
            ),
            field=("image", "other"),
            conditions={"label": Label(), "caption": Text()},
        ),
        sample=Sampling(
            choose(solvers.dpm_solver_pp, order=3),
            choose(grids.uniform_log_snr, log_snr_min=-12, log_snr_max=9.5),
            7,
            ClassifierFree(2.0),
        ),
        parallel=ParallelConfig(overrides={"conv_in": "none"}),
    ),
    "mlp": Config(
        data=Toy("moons"), model=Diffusion(network=MLP(width=8, embedding=Fourier(seed=3), dtype="bfloat16"), field="x")
    ),
    "classifier": Config(model=Classifier(process=choose(processes.vp_cosine)), objective=CrossEntropy()),
    "embedding": Config(model=Embedding(), objective=Contrastive()),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_settings_go_through_json(name):
    config = CONFIGS[name]
    again = from_json(Config, json.loads(json.dumps(to_json(config))))
    assert again == config
    assert type(again.model.network) is type(config.model.network)
    assert hash(again.model) == hash(config.model)
    assert to_json(again) == to_json(config)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("trian", {}, ["trian is unknown", "did you mean 'train'?"]),
        ("train.stepps", 3, ["train.stepps is unknown", "did you mean 'steps'?"]),
        ("model.network.widht", 3, ["model.network.widht is unknown", "did you mean 'width'?"]),
        ("model.network.channels", 3, ["model.network.channels is unknown"]),  # another network's
        ("model.network.kind", "MPL", ["model.network.kind = 'MPL'", "did you mean 'MLP'?"]),
        ("model.network.kind", "MLP", []),
        ("model.network.kind", "nowhere:Mine", ["model.network.kind = 'nowhere:Mine'", "is not imported"]),
        ("model.network.embedding.max_perod", 3, ["model.network.embedding.max_perod is unknown"]),
        ("model.network.width", "8", ["model.network.width = '8'", "integers"]),
        ("model.network", 3, ["model.network = 3"]),
        ("model.conditions.label", 3, ["model.conditions.label = 3"]),
        ("model.conditions.label.dropout", 1.5, ["model.conditions.label.dropout = 1.5"]),
        ("model.process", "flow", ["model.process = 'flow'", "kind"]),
        ("model.process.kind", "vp_cosin", ["model.process.kind = 'vp_cosin'", "did you mean 'vp_cosine'?"]),
        ("model.process.t_min", [1], ["model.process.t_min = [1]"]),
        ("model.process.t_mni", 1.0, ["model.process.t_mni is unknown", "did you mean 't_min'?"]),
        ("data", None, ["data = None"]),
        ("data", {"name": "gaussians"}, ["data.kind is missing"]),
        ("augmentations", {}, ["augmentations = {}", "lists"]),
        ("augmentations", [{"kind": "Flop"}], ["augmentations.0.kind = 'Flop'", "did you mean 'Flip'?"]),
        ("train.steps", "many", ["train.steps = 'many'", "integers"]),
        ("train.steps", 2.5, ["train.steps = 2.5"]),
        ("train.steps", 0, ["train.steps = 0"]),
        ("train", 3, ["train = 3", "TrainConfig"]),
        ("optimizer.learning_rate", -1.0, ["optimizer.learning_rate = -1.0"]),
        ("optimizer.learning_rate", float("nan"), ["optimizer.learning_rate = nan"]),
        ("optimizer.beta2", 1.0, ["optimizer.beta2 = 1.0"]),
        ("train.seed", 2**32, ["train.seed = 4294967296"]),
        ("sample.steps", -1, ["sample.steps = -1"]),
        ("sample.guidance", 2.0, ["sample.guidance = 2.0"]),
        ("train.validate_every", 10, ["train.validate_every = 10", "train.held_out"]),
        ("parallel.steps_per_call", 4, ["train.steps = 210", "parallel.steps_per_call = 4"]),
        ("parallel.overrides", {"(": "0"}, ["parallel.overrides", "'('"]),
    ],
)
def test_wrong_settings_are_one_line_that_names_them(path, value, words):
    values = to_json(TOY)
    *parents, last = path.split(".")
    place = values
    for parent in parents:
        place = place[parent]
    place[last] = value
    if not words:
        assert from_json(Config, values) == TOY
        return
    with pytest.raises((ValueError, TypeError)) as error:
        check(from_json(Config, values))
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


def test_a_function_that_could_not_be_read_again_is_refused_before_training():
    """Reading calls no function whose annotation does not say that it returns the setting's result."""

    def plain_flow():
        return processes.flow()

    with pytest.raises(ValueError, match=r"^model\.process\.kind = 'plain_flow'; .* annotated with the same result"):
        check(dataclasses.replace(TOY, model=dataclasses.replace(TOY.model, process=choose(plain_flow))))
    plain_flow.__annotations__["return"] = processes.Process
    check(dataclasses.replace(TOY, model=dataclasses.replace(TOY.model, process=choose(plain_flow))))


def test_settings_left_out_are_the_defaults():
    assert from_json(Config, {}) == Config()
    assert from_json(Config, {"train": {"steps": 7}}) == Config(train=TrainConfig(steps=7))
    network = {"kind": "Diffusion", "network": {"kind": "MLP", "width": 8}}
    assert from_json(Config, {"model": network}).model.network == MLP(width=8)
    assert from_json(Config, {"model": {"kind": "Diffusion"}}).model.parametrization == choose(parametrizations.v)


def test_facts_go_through_json_and_others_are_refused_in_one_line():
    fields = TOY.data.open().fields
    facts = Facts(Table(fields), "12ab", Table({"model.codec.weights": "34cd"}))
    saved = json.loads(json.dumps(facts.to_json()))
    assert Facts.from_json(saved) == facts
    for wrong in ({}, {**saved, "more": 1}, {**saved, "fields": []}, {**saved, "fields": {"x": {"kind": "sound"}}}, 3):
        with pytest.raises(ValueError, match=r"data|kind") as error:
            Facts.from_json(wrong)
        assert "\n" not in str(error.value)
