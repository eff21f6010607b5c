"""Settings that cannot work are refused in one line that names them, before anything is written to disk."""

import contextlib
import io
import math
import shlex
import subprocess
import sys
import types
import typing

import pytest
from devices import ROOT, forced

from jaxdiff.cli import compilation_cache, compile_pod, ema
from jaxdiff.components import Table, from_json, to_json, walk
from jaxdiff.presets import open_preset
from jaxdiff.runs import loop
from jaxdiff.runs.config import Config
from jaxdiff.runs.config_checks import check
from jaxdiff.runs.directory import create_run, write_config
from jaxdiff.runs.facts import Facts
from jaxdiff.runs.settings import saved_settings

CIFAR10 = str(ROOT / "configs" / "cifar10.py")
NAN = float("nan")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty working directory, without data sets and without wandb."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "nowhere"))
    monkeypatch.setitem(sys.modules, "wandb", None)
    return tmp_path


def changed(config, settings):
    """The settings as JSON, with other values by their dotted paths."""
    tree = to_json(config)
    for path, value in settings.items():
        *parents, last = path.split(".")
        place = tree
        for parent in parents:
            place = place[parent]
        place[last] = value
    return tree


def types_of(hint):
    """The types that a setting may have, without None and without annotations."""
    if typing.get_origin(hint) is typing.Annotated:
        return types_of(typing.get_args(hint)[0])
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return [kind for option in typing.get_args(hint) for kind in types_of(option) if kind is not type(None)]
    return [hint]


def out_of_range(kind):
    """Numbers that no setting allows."""
    if typing.get_origin(kind) is tuple:
        return [(value, value) for value in out_of_range(typing.get_args(kind)[0])]
    return {int: [-1, -(10**20)], float: [NAN, math.inf, -math.inf]}.get(kind, [])


@pytest.mark.parametrize("preset", ["toy2d", "digits", "vdm"])
def test_every_setting_refuses_numbers_out_of_range_and_other_types(preset):
    """Networks and functions refuse numbers when they are called: see `REFUSED`."""
    config = open_preset(preset).config
    tried = 0
    for path, hint, _, owner in walk(config, Config):
        if path.endswith(".kind"):
            continue
        called = not isinstance(owner, type) or ".network." in path
        numbers = [number for kind in types_of(hint) for number in out_of_range(kind)]
        for number in numbers if not called else []:
            tried += 1
            with pytest.raises(ValueError, match="allowed are") as error:
                check(from_json(Config, changed(config, {path: number})))
            assert "\n" not in str(error.value), path
            assert str(number[0] if isinstance(number, tuple) else number) in str(error.value), path
        name = path.rpartition(".")[2]
        for settings, words in (
            ({path: {"no": ["such"]}}, path),
            ({f"{path}s": 1}, f"{name}s is unknown; .*did you mean"),
        ):
            with pytest.raises(ValueError, match=words) as error:
                from_json(Config, changed(config, settings))
            assert "\n" not in str(error.value), path
    assert tried > 60


SMALL = {"model.network.channels": 8, "model.network.multipliers": [1], "model.network.attention_levels": []}
REFUSED = [
    ("toy2d", {"train.steps": 99999999999999999999}, ["train.steps = 99999999999999999999", "1 to 2147483647"]),
    ("toy2d", {"train.seed": 4294967296}, ["train.seed = 4294967296"]),
    ("toy2d", {"train.ema_widths": [0.1, 0.1]}, ["train.ema_widths = (0.1, 0.1)", "different"]),
    ("toy2d", {"train.ema_widths": [0.1, 0.3]}, ["0.3", "0.2886"]),
    ("toy2d", {"train.snapshot_every": 10}, ["train.snapshot_every = 10", "ema_widths"]),
    ("toy2d", {"data.name": "checkerbord"}, ["data.name = 'checkerbord'", "did you mean 'checkerboard'?"]),
    ("digits", {"data": {"kind": "Tfds", "name": "nosuch", "data_dir": "."}}, ["data", "'nosuch'"]),
    ("mnist", {"data.data_dir": "nosuch"}, ["data_dir = 'nosuch'"]),
    (CIFAR10, {"data.data_dir": "."}, ["'cifar10'"]),
    ("digits", {"data.split": "nosuch"}, ["data.split = 'nosuch'", "'train', 'test'"]),
    ("digits", {"data": {"kind": "Folder"}}, ["data.path is missing"]),
    ("digits", {"data": {"kind": "Folder", "path": "nosuch"}}, ["data.path = 'nosuch'"]),
    ("digits", {"data": {"kind": "Arrays"}}, ["data", "examples is missing"]),
    ("digits", {"augmentations": [{"kind": "Flip", "field": "picture"}]}, ["augmentations.0.field = 'picture'"]),
    ("digits", {"augmentations": [{"kind": "Flip", "probability": 1.5}]}, ["augmentations.0.probability = 1.5"]),
    ("toy2d", {"augmentations": [{"kind": "Flip", "field": "x"}]}, ["augmentations.0.field = 'x'", "picture"]),
    ("digits", {"loading.workers": 2}, ["loading.workers = 2", "'disk'"]),
    ("toy2d", {"model.process.beta_min": 3}, ["model.process.beta_min is unknown"]),
    ("toy2d", {"model.process": {"kind": "vp_linear", "beta_min": -3}}, ["model.process", "beta_min", "-3"]),
    ("toy2d", {"model.process": {"kind": "vp_linear", "beta_min": "abc"}}, ["model.process.beta_min = 'abc'"]),
    ("toy2d", {"model.process": {"kind": "vp_linear", "beta_min": NAN}}, ["model.process.beta_min = nan"]),
    ("toy2d", {"model.parametrization": {"kind": "edm"}}, ["model", "'edm'", "Flow"]),
    ("toy2d", {"model.parametrization.x": 1}, ["model.parametrization.x is unknown"]),
    ("toy2d", {"model.field": "y"}, ["model.field = 'y'", "fields of the data: x"]),
    ("toy2d", {"model.field": ["x", "y"]}, ["model.field = 'y'"]),
    ("toy2d", {"model.field": []}, ["model.field = ()"]),
    ("toy2d", {"model.conditions": {"label": {"kind": "Label"}}}, ["model.conditions.label.field = 'label'", "x"]),
    ("toy2d", {"model.conditions": {"x": {"kind": "Label", "field": "x"}}}, ["model.conditions.x.field = 'x'"]),
    (
        "digits",
        {"model.conditions": {"label": {"kind": "Lable"}}},
        ["model.conditions.label.kind = 'Lable'", "'Label'"],
    ),
    ("digits", {"model.conditions.label.field": "lable"}, ["model.conditions.label.field = 'lable'", "image, label"]),
    ("digits", {"model.conditions.label.dropout": 2.0}, ["model.conditions.label.dropout = 2.0"]),
    ("digits", {"model.conditions": {"a b": {"kind": "Label"}}}, ["'a b'"]),
    (
        "digits",
        {"model": {"kind": "Embedding", "text": {"kind": "Text", "dropout": 0.5}}},
        ["model.text.dropout = 0.5", "no captions"],
    ),
    ("toy2d", {"objective.weighting": {"kind": "p2", "k": "abc"}}, ["objective.weighting.k = 'abc'"]),
    ("toy2d", {"objective.weighting": {"kind": "p2", "k": NAN}}, ["objective.weighting.k = nan"]),
    ("toy2d", {"objective.weighting": {"kind": "min_snr", "g": 1}}, ["objective.weighting.g is unknown"]),
    ("toy2d", {"objective.times.std": 1}, ["objective.times.std is unknown"]),
    ("toy2d", {"objective.times": {"kind": "log_normal", "std": -1}}, ["objective.times.std = -1"]),
    ("toy2d", {"objective.times": {"kind": "indices"}}, ["'Flow'", "discrete processes"]),
    ("toy2d", {"objective.times": {"kind": "importance"}}, ["'Flow'", "discrete processes"]),
    ("digits", {"model.network.attention_levels": [5]}, ["attention_levels = (5,)", "[0, 1]"]),
    ("digits", {"model.network.head_channels": 7}, ["head_channels = 7", "48"]),
    ("digits", {"model.network.norm_groups": 7}, ["norm_groups = 7", "24"]),
    ("digits", {"model.network.multipliers": []}, ["multipliers = ()"]),
    ("digits", {"model.network.multipliers": [0, 1]}, ["multipliers = 0"]),
    ("digits", {"model.network.channels": 7}, ["features = 7", "even"]),
    ("digits", {"model.network.channels": -8}, ["features = -8"]),
    ("digits", {"model.network.attention_levels": [-1]}, ["attention_levels = (-1,)"]),
    ("digits", {"model.network.head_channels": -3}, ["head_channels = -3"]),
    ("digits", {"model.network.norm_groups": -1}, ["norm_groups = -1"]),
    ("digits", {"model.network.dropout": 1.0}, ["dropout = 1.0"]),
    ("digits", {"model.network.dtype": "nosuch"}, ["dtype = 'nosuch'", "bfloat16"]),
    ("digits", {"model.network.dtype": "complex64"}, ["dtype = 'complex64'"]),
    ("digits", {"model.network.input_residual": True}, ["input_residual = True"]),
    (
        "digits",
        {"model.network.resampling": "residual", "model.network.resample_filter": [0.0, 0.0]},
        ["(0.0, 0.0)", "non-zero sum"],
    ),
    ("digits", {"model.network.out_channels": 3, **SMALL}, ["8, 8, 3)", "8, 8, 1)"]),
    ("digits", {"model.network.skip_scale": 0.0}, ["skip_scale = 0.0"]),
    ("toy2d", {"model.network.embedding.max_period": math.inf}, ["max_period = inf"]),
    ("toy2d", {"model.network.embedding.max_period": -1.0}, ["max_period = -1.0"]),
    ("toy2d", {"model.network.width": 0}, ["features = 0"]),
    ("toy2d", {"model.network.num_blocks": 1000000000}, ["num_blocks = 1000000000"]),
    ("digits", {"data": {"kind": "Toy"}}, ["model.field = 'image'", "fields of the data: x"]),
    ("digits", {"data": {"kind": "Toy", "name": "moons"}, "model.field": "x"}, ["x.shape = (1, 2)"]),
    ("toy2d", {"data": {"kind": "Digits"}, "model.field": "image"}, ["x.shape = (1, 8, 8, 1)"]),
    ("toy2d", {"optimizer.warmup": 99999999999999999999}, ["optimizer.warmup = 99999999999999999999"]),
    ("toy2d", {"sample.solver.eta": -1}, ["sample.solver.eta = -1"]),
    ("toy2d", {"sample.solver.eta": "abc"}, ["sample.solver.eta = 'abc'"]),
    ("toy2d", {"sample.solver.order": 2}, ["sample.solver.order is unknown"]),
    ("toy2d", {"sample.solver": {"kind": "dpm_solver_pp", "order": 9}}, ["sample.solver.order = 9"]),
    ("toy2d", {"sample.grid": {"kind": "discrete"}}, ["sample.grid", "Flow"]),
    ("toy2d", {"sample.grid": {"kind": "karras", "sigma_max": -1.0}}, ["sample.grid", "sigma_max = -1"]),
    ("toy2d", {"sample.grid.rho": 7}, ["sample.grid.rho is unknown"]),
    ("toy2d", {"sample.steps": 1000000000}, ["sample.steps = 1000000000"]),
    ("toy2d", {"sample.guidance.scale": 2.0}, ["guidance.scale = 2.0", "no conditions"]),
    ("toy2d", {"parallel.fsdp": 1000}, ["parallel.fsdp = 1000", "divisors"]),
    ("toy2d", {"parallel.fsdp": 2, "parallel.strategy": "single"}, ["parallel.fsdp = 2"]),
    ("toy2d", {"parallel.fsdp": 2, "parallel.strategy": "pmap"}, ["parallel.fsdp = 2"]),
    ("toy2d", {"parallel.overrides": {"nosuch": "0"}}, ["nosuch"]),
    ("toy2d", {"parallel.overrides": {"(": "0"}}, ["'('", "regular expressions"]),
    ("toy2d", {"parallel.overrides": {"dense_in": "first"}}, ["'first'", "axis"]),
    ("toy2d", {"parallel.overrides": {"dense_in": "-1"}}, ["'-1'", "axis"]),
    ("toy2d", {"parallel.overrides": {"dense_in": "7"}}, ["'7'"]),
    ("toy2d", {"parallel.overrides": {"dense_in": "0"}, "parallel.strategy": "pmap"}, ["overrides", "pmap"]),
    ("toy2d", {"parallel.accumulate": 3}, ["parallel.accumulate = 3", "1024"]),
    ("toy2d", {"parallel.accumulate": 2048}, ["parallel.accumulate = 2048"]),
    ("toy2d", {"parallel.steps_per_call": 3}, ["train.steps = 4000", "steps_per_call = 3"]),
    ("toy2d", {"parallel.steps_per_call": 100}, ["train.log_every = 50", "steps_per_call = 100"]),
    (
        "toy2d",
        {"train.held_out": 1000, "train.validate_every": 51, "parallel.steps_per_call": 2},
        ["validate_every = 51"],
    ),
    ("toy2d", {"train.validate_every": 50}, ["train.validate_every = 50", "train.held_out"]),
    ("toy2d", {"train.held_out": 10000}, ["train.held_out = 10000"]),
    ("toy2d", {"train.start_from": "nosuch"}, ["train.start_from", "nosuch"]),
    ("toy2d", {"log.profile": [0, 3]}, ["log.profile = (0, 3)"]),
    ("toy2d", {"log.profile": [5, 3]}, ["log.profile = (5, 3)"]),
    ("toy2d", {"log.profile": [5000, 6000]}, ["log.profile = (5000, 6000)", "4000"]),
    ("toy2d", {"log.wandb": ""}, ["log.wandb = ''"]),
    ("toy2d", {"log.wandb": "nosuch"}, ["log.wandb = 'nosuch'", "pip install"]),
    ("toy2d", {"train.batch_size": 10001}, ["batch_size = 10001", "1..10000"]),
    ("toy2d", {"train.batch_size": 10001, "loading.placement": "device"}, ["batch_size = 10001", "1..10000"]),
    ("digits", {"model": {"kind": "Classifier", "network": {"kind": "UNet"}}}, ["model.network"]),
    (
        "digits",
        {
            "model": {"kind": "Classifier", "network": {"kind": "Encoder", "norm_groups": 7}},
            "objective": {"kind": "CrossEntropy"},
        },
        ["model.network.norm_groups = 7"],
    ),
    ("digits", {"model.codec": {"kind": "Latents", "run": "nosuch"}}, ["nosuch"]),
]


@pytest.mark.parametrize(("preset", "settings", "words"), REFUSED, ids=str)
def test_settings_that_cannot_work_are_refused_before_anything_is_written(preset, settings, words, folder, monkeypatch):
    def trained(*_):
        raise AssertionError("the settings were not refused")

    monkeypatch.setattr(loop, "open_or_create", trained)
    with pytest.raises((ValueError, TypeError, MemoryError, ImportError)) as error:
        loop.train(from_json(Config, changed(open_preset(preset).config, settings)), folder / "run")
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)
    assert not list(folder.iterdir())


@pytest.fixture
def run(folder):
    """A run without a checkpoint."""
    run = create_run(folder / "other")
    config = open_preset("toy2d").config
    write_config(run, saved_settings(config, Facts(Table(config.data.open().fields)), run, {}))
    return run


@pytest.mark.parametrize(
    ("command", "line", "words"),
    [
        (ema, "other", ["missing", "width"]),
        (ema, "nosuch --width 0.1", ["nosuch", "no such directory"]),
        (ema, "other --width 0.4", ["width = 0.4"]),
        (ema, "other --width nan", ["width = 'nan'"]),
        (ema, "other --width 0.1", ["snapshot"]),
        (compile_pod, "digits --shape 0", ["shape = (0,)"]),
        (compile_pod, "digits --classes -1", ["classes = -1"]),
        (compile_pod, "digits --data.kind Folder --data.path nosuch", ["'Folder'", "--shape and --classes"]),
        (compile_pod, "digits --topology v99:2x2", ["v99:2x2"]),
    ],
)
def test_the_commands_about_averages_and_pods_refuse_in_one_line(command, line, words, run, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["command", *shlex.split(line)])
    monkeypatch.setattr(compilation_cache, "enable", lambda: None)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as stop:
        command.main()
    assert stop.value.code == 2
    assert out.getvalue() == ""
    (text,) = err.getvalue().splitlines()
    assert text.startswith("error: ")
    for word in words:
        assert word in text


def started(program, devices=1):
    """The result of a program in a process of its own, with so many devices."""
    return subprocess.run(
        [sys.executable, *program], env=forced(devices), capture_output=True, text=True, timeout=300, check=False
    )


def test_a_process_ends_with_one_line_and_status_2(folder):
    """A whole process shows warnings on standard error, threads that outlive it, and several devices."""
    done = started([ROOT / "scripts" / "train.py", "toy2d", "--train.batch-size", "1028"], devices=8)
    assert (done.returncode, done.stdout) == (2, "")
    (text,) = done.stderr.splitlines()
    assert text.startswith("error: train.batch_size = 1028; allowed are multiples of 8")
    assert not list(folder.iterdir())


SETTINGS_ALONE = """
import jax
from jaxdiff.cli import command_line
from jaxdiff.cli.train import Arguments
flags = ["--model.process.kind", "vp_discrete", "--objective.times.kind", "indices", "--sample.grid.kind", "discrete"]
config, _ = command_line.parse_preset(Arguments, ["digits", *flags], prog="train.py")
assert config.model.process.function.__name__ == "vp_discrete"
assert config.objective.times.function.__name__ == "indices"
assert not jax._src.xla_bridge._backends, jax._src.xla_bridge._backends
"""


def test_presets_and_flags_compute_nothing_on_a_device():
    """Processes of one job must be joined before JAX has devices."""
    done = started(["-c", SETTINGS_ALONE])
    assert done.returncode == 0, done.stderr
