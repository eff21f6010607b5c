"""Settings that cannot work are refused in one line that names them, before anything is written to disk."""

import contextlib
import dataclasses
import io
import math
import os
import shlex
import subprocess
import sys
import types
import typing
from pathlib import Path

import pytest
from run_settings import replaced

from jaxdiff.cli import compilation_cache, compile_pod, ema
from jaxdiff.presets import open_preset
from jaxdiff.runs import recipe
from jaxdiff.runs.config_checks import check
from jaxdiff.runs.config_json import from_json, to_json
from jaxdiff.runs.directory import create_run, write_config
from jaxdiff.runs.loop import train
from jaxdiff.runs.settings import saved_settings

ROOT = Path(__file__).parents[2]
CIFAR10 = str(ROOT / "configs" / "cifar10.py")
NAN = float("nan")
SMALL = {"network__channels": 8, "network__multipliers": (1,), "network__attention_levels": ()}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty working directory, without data sets and without wandb."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "nowhere"))
    monkeypatch.setitem(sys.modules, "wandb", None)
    return tmp_path


def kinds(hint):
    """The types that a setting may have, without None."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return [kind for option in typing.get_args(hint) for kind in kinds(option) if kind is not type(None)]
    return [hint]


def out_of_range(kind):
    """Numbers that no setting allows."""
    if typing.get_origin(kind) is tuple:
        return [(value, value) for value in out_of_range(typing.get_args(kind)[0])]
    return {int: [-1, -(10**20)], float: [NAN, math.inf, -math.inf]}.get(kind, [])


# A network refuses these itself when it is called: see `REFUSED`.
CALLED = {"width", "channels", "out_channels", "out_features", "head_channels", "norm_groups", "attention_levels"}
PARTS = [("toy2d", part.name) for part in dataclasses.fields(open_preset("toy2d").config)] + [("digits", "network")]


@pytest.mark.parametrize(("preset", "part"), PARTS)
def test_every_setting_refuses_numbers_out_of_range_and_other_types(preset, part):
    config = open_preset(preset).config
    settings, saved = getattr(config, part), to_json(config)
    hints = typing.get_type_hints(type(settings))
    for field in saved[part]:
        numbers = [number for kind in kinds(hints[field]) for number in out_of_range(kind)]
        for number in numbers if field not in CALLED else []:
            with pytest.raises(ValueError, match="allowed are") as error:
                check(dataclasses.replace(config, **{part: dataclasses.replace(settings, **{field: number})}))
            assert "\n" not in str(error.value)
            assert str(number[0] if isinstance(number, tuple) else number) in str(error.value)
        for changed, words in [
            ({field: {"no": ["such"]}}, field),
            ({field + "s": 1}, f"unknown setting {field}s; did you mean"),
        ]:
            with pytest.raises(ValueError, match=words) as error:
                from_json({**saved, part: {**saved[part], **changed}})
            assert "\n" not in str(error.value)


REFUSED = [
    ("toy2d", {"train__steps": 0}, ["steps = 0"]),
    (
        "toy2d",
        {"train__steps": 99999999999999999999},
        ["steps = 99999999999999999999", "integers from 1 to 2147483647"],
    ),
    ("toy2d", {"train__batch_size": 0}, ["batch_size = 0"]),
    ("toy2d", {"train__batch_size": 99999999999999999999}, ["batch_size = 99999999999999999999"]),
    ("toy2d", {"train__seed": 4294967296}, ["seed = 4294967296"]),
    ("toy2d", {"train__ema_widths": (0.1, 0.1)}, ["ema_widths = (0.1, 0.1)", "different"]),
    ("toy2d", {"train__ema_widths": (0.1, 0.3)}, ["0.3", "0.2886"]),
    ("toy2d", {"train__snapshot_every": 10}, ["snapshot_every = 10", "ema_widths"]),
    ("toy2d", {"train__log_every": 0}, ["log_every = 0"]),
    ("toy2d", {"train__keep": 0}, ["keep = 0"]),
    ("toy2d", {"data__name": "checkerbord"}, ["'checkerbord'", "did you mean 'checkerboard'?"]),
    ("digits", {"data__name": "nosuch", "data__data_dir": "."}, ["'nosuch'", "digits"]),
    ("mnist", {"data__data_dir": "nosuch"}, ["'mnist'", "data_dir = 'nosuch' is not a directory"]),
    (CIFAR10, {"data__data_dir": "."}, ["'cifar10'", "data_dir = '.'"]),
    ("digits", {"data__split": "nosuch"}, ["split = 'nosuch'", "'train', 'test'"]),
    ("digits", {"data__split": "train[:0]"}, ["split = 'train[:0]'"]),
    ("digits", {"data__name": "folder"}, ["data_dir = None", "paths"]),
    ("digits", {"data__name": "folder", "data__data_dir": "nosuch"}, ["'nosuch'", "not a folder"]),
    ("digits", {"data__size": 8}, ["size = 8", "'folder'"]),
    ("digits", {"data__augment": 1.5}, ["augment = 1.5", "0 to 1"]),
    ("digits", {"data__augment": 0.2, "data__flip": True}, ["flip = True", "augment"]),
    ("toy2d", {"data__augment": 0.2}, ["data.augment = 0.2", "(2,)"]),
    ("digits", {"data__workers": 2}, ["workers = 2", "'disk'"]),
    ("toy2d", {"diffusion__process_options": {"beta_min": 3}}, ["beta_min", "flow()"]),
    (
        "toy2d",
        {"diffusion__process": "vp_linear", "diffusion__process_options": {"beta_min": -3}},
        ["beta_min", "(-3, 20.0)"],
    ),
    (
        "toy2d",
        {"diffusion__process": "vp_linear", "diffusion__process_options": {"beta_min": "abc"}},
        ["beta_min = 'abc'", "numbers"],
    ),
    ("toy2d", {"diffusion__process": "vp_linear", "diffusion__process_options": {"beta_min": NAN}}, ["beta_min = nan"]),
    ("toy2d", {"diffusion__parametrization": "edm"}, ["'edm'", "Flow"]),
    ("toy2d", {"diffusion__parametrization_options": {"x": 1}}, ["parametrization_options = {'x': 1}"]),
    ("toy2d", {"diffusion__weighting_options": {"gamma": 1}}, ["weighting_options = {'gamma': 1}", "'output'"]),
    ("toy2d", {"diffusion__weighting": "p2", "diffusion__weighting_options": {"k": "abc"}}, ["k = 'abc'"]),
    (
        "toy2d",
        {"diffusion__weighting": "p2", "diffusion__weighting_options": {"k": NAN}},
        ["weighting_options.k = nan"],
    ),
    ("toy2d", {"diffusion__weighting": "min_snr", "diffusion__weighting_options": {"g": 1}}, ["min_snr()", "'g'"]),
    ("toy2d", {"diffusion__times_options": {"std": 1}}, ["times_options = {'std': 1}", "'uniform'"]),
    ("toy2d", {"diffusion__times": "log_normal", "diffusion__times_options": {"mean": "abc"}}, ["mean = 'abc'"]),
    ("toy2d", {"diffusion__times": "indices"}, ["'Flow'", "discrete processes"]),
    ("toy2d", {"diffusion__label_dropout": 2.0}, ["label_dropout = 2.0"]),
    ("digits", {"network__attention_levels": (5,)}, ["attention_levels = (5,)", "[0, 1]"]),
    ("digits", {"network__head_channels": 7}, ["head_channels = 7", "48"]),
    ("digits", {"network__norm_groups": 7}, ["norm_groups = 7", "24"]),
    ("digits", {"network__multipliers": ()}, ["multipliers = ()"]),
    ("digits", {"network__multipliers": (0, 1)}, ["multipliers = 0"]),
    ("digits", {"network__channels": 7}, ["features = 7", "even"]),
    ("digits", {"network__channels": -8}, ["features = -8"]),
    ("digits", {"network__attention_levels": (-1,)}, ["attention_levels = (-1,)"]),
    ("digits", {"network__head_channels": -3}, ["head_channels = -3"]),
    ("digits", {"network__norm_groups": -1}, ["norm_groups = -1"]),
    ("digits", {"network__dropout": 1.0}, ["dropout = 1.0"]),
    ("digits", {"network__dtype": "nosuch"}, ["dtype = 'nosuch'", "bfloat16"]),
    ("digits", {"network__dtype": "complex64"}, ["dtype = 'complex64'"]),
    ("digits", {"network__input_residual": True}, ["input_residual = True"]),
    (
        "digits",
        {"network__resampling": "residual", "network__resample_filter": (0.0, 0.0)},
        ["(0.0, 0.0)", "non-zero sum"],
    ),
    ("digits", {"network__out_channels": 3, **SMALL}, ["(128, 8, 8, 3)", "(128, 8, 8, 1)"]),
    ("digits", {"network__num_classes": 3}, ["num_classes = 3"]),
    ("digits", {"network__skip_scale": 0.0}, ["skip_scale = 0.0"]),
    ("toy2d", {"network__vector_features": 3}, ["vector_features = 3"]),
    ("toy2d", {"network__width": 0}, ["features = 0"]),
    ("toy2d", {"network__width": 100000000000}, ["Unable to allocate"]),
    ("toy2d", {"network__num_blocks": 1000000000}, ["num_blocks = 1000000000"]),
    ("digits", {"data__name": "checkerboard"}, ["x.shape = (1, 2)"]),
    ("toy2d", {"data__name": "digits"}, ["x.shape = (1, 8, 8, 1)"]),
    ("toy2d", {"optimizer__learning_rate": 0.0}, ["learning_rate = 0.0"]),
    ("toy2d", {"optimizer__warmup": 99999999999999999999}, ["warmup = 99999999999999999999"]),
    ("toy2d", {"optimizer__beta1": 1.0}, ["beta1 = 1.0"]),
    ("toy2d", {"sample__solver_options": {"eta": -1}}, ["eta = -1"]),
    ("toy2d", {"sample__solver_options": {"eta": "abc"}}, ["eta = 'abc'"]),
    ("toy2d", {"sample__solver_options": {"order": 2}}, ["ddim()", "'order'"]),
    ("toy2d", {"sample__solver": "dpm_solver_pp", "sample__solver_options": {"order": 9}}, ["order = 9"]),
    ("toy2d", {"sample__grid": "discrete"}, ["discrete", "Flow"]),
    ("toy2d", {"sample__grid": "karras"}, ["sigma_max = inf"]),
    ("toy2d", {"sample__grid_options": {"rho": 7}}, ["uniform_time()", "'rho'"]),
    ("toy2d", {"sample__steps": 1000000000}, ["steps = 1000000000"]),
    ("toy2d", {"parallel__fsdp": 0}, ["fsdp = 0"]),
    ("toy2d", {"parallel__fsdp": 1000}, ["parallel.fsdp = 1000", "divisors"]),
    ("toy2d", {"parallel__fsdp": 2, "parallel__strategy": "single"}, ["fsdp = 2"]),
    ("toy2d", {"parallel__fsdp": 2, "parallel__strategy": "pmap"}, ["fsdp = 2"]),
    ("toy2d", {"parallel__overrides": {"nosuch": "0"}}, ["nosuch"]),
    ("toy2d", {"parallel__overrides": {"(": "0"}}, ["'('", "regular expressions"]),
    ("toy2d", {"parallel__overrides": {"dense_in": "first"}}, ["'first'", "axis"]),
    ("toy2d", {"parallel__overrides": {"dense_in": "-1"}}, ["'-1'", "axis"]),
    ("toy2d", {"parallel__overrides": {"dense_in": "7"}}, ["'7'"]),
    ("toy2d", {"parallel__overrides": {"dense_in": "0"}, "parallel__strategy": "pmap"}, ["overrides", "pmap"]),
    ("toy2d", {"parallel__accumulate": 3}, ["parallel.accumulate = 3", "1024"]),
    ("toy2d", {"parallel__accumulate": 2048}, ["parallel.accumulate = 2048"]),
    ("toy2d", {"parallel__steps_per_call": 3}, ["train.steps = 4000", "steps_per_call = 3"]),
    ("toy2d", {"parallel__steps_per_call": 100}, ["train.log_every = 50", "steps_per_call = 100"]),
    ("toy2d", {"log__profile": (0, 3)}, ["profile = (0, 3)"]),
    ("toy2d", {"log__profile": (5, 3)}, ["profile = (5, 3)"]),
    ("toy2d", {"log__profile": (5000, 6000)}, ["log.profile = (5000, 6000)", "4000"]),
    ("toy2d", {"log__wandb": ""}, ["wandb = ''"]),
    ("toy2d", {"train__batch_size": 10001}, ["batch_size = 10001", "1..10000"]),
    ("toy2d", {"train__batch_size": 10001, "data__placement": "device"}, ["batch_size = 10001", "1..10000"]),
    ("toy2d", {"data__flip": True}, ["flip = True", "(2,)"]),
    ("toy2d", {"sample__guidance": 2.0}, ["guidance = 2.0"]),
    ("toy2d", {"log__wandb": "nosuch"}, ["log.wandb = 'nosuch'", "pip install"]),
]


@pytest.mark.parametrize(("preset", "settings", "words"), REFUSED, ids=str)
def test_settings_that_cannot_work_are_refused_before_anything_is_written(preset, settings, words, folder):
    with pytest.raises((ValueError, TypeError, MemoryError, ImportError)) as error:
        train(replaced(open_preset(preset).config, **settings), folder / "run")
    for word in words:
        assert word in str(error.value)
    assert not list(folder.iterdir())


@pytest.fixture
def run(folder):
    """A run without a checkpoint."""
    run = create_run(folder / "other")
    config = open_preset("toy2d").config
    write_config(run, saved_settings(config, recipe.describe_data(config, recipe.open_data(config.data))))
    return run


@pytest.mark.parametrize(
    ("command", "line", "words"),
    [
        (ema, "other", ["missing --width"]),
        (ema, "nosuch --width 0.1", ["nosuch", "no such directory"]),
        (ema, "other --width 0.4", ["width = 0.4"]),
        (ema, "other --width nan", ["width = nan"]),
        (ema, "other --width 0.1", ["snapshot"]),
        (compile_pod, "digits --shape 0", ["shape = (0,)"]),
        (compile_pod, "digits --classes -1", ["classes = -1"]),
        (compile_pod, "digits --data.name nosuch", ["'nosuch'", "--shape and --classes"]),
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
    flags = f"--xla_force_host_platform_device_count={devices}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    return subprocess.run(
        [sys.executable, *program], env=environment, capture_output=True, text=True, timeout=300, check=False
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
from jaxdiff.runs.config import DiffusionConfig
flags = ["--diffusion.process", "vp_discrete", "--diffusion.times", "indices", "--sample.grid", "discrete"]
config, _ = command_line.parse_preset(Arguments, ["digits", *flags], prog="train.py")
assert config.diffusion == DiffusionConfig(process="vp_discrete", times="indices")
assert not jax._src.xla_bridge._backends, jax._src.xla_bridge._backends
"""


def test_presets_and_flags_compute_nothing_on_a_device():
    """Processes of one job must be joined before JAX has devices."""
    done = started(["-c", SETTINGS_ALONE])
    assert done.returncode == 0, done.stderr
