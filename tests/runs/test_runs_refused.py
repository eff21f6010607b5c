"""Malformed settings and flags: each is one line on standard error and status 2, and leaves no trace on disk.

Many cases are made from the settings themselves: every field with a value of another type, with numbers out of range,
and with its name misspelt.
"""

import contextlib
import dataclasses
import functools
import importlib.util
import inspect
import io
import json
import os
import shlex
import subprocess
import sys
import types
import typing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxdiff import data
from jaxdiff.cli import command_line, compilation_cache
from jaxdiff.presets import open_preset
from jaxdiff.runs import loop, recipe
from jaxdiff.runs.config_json import from_json, to_json
from jaxdiff.runs.directory import create_run, lock_run, write_config

ROOT = Path(__file__).parents[2]


def script(name):
    spec = importlib.util.spec_from_file_location(f"script_{name}", ROOT / "scripts" / f"{name}.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    platforms = os.environ.get("JAX_PLATFORMS")
    spec.loader.exec_module(module)
    # compile_pod keeps JAX to the CPU; other tests of this process are not concerned.
    os.environ.pop("JAX_PLATFORMS", None) if platforms is None else os.environ.update(JAX_PLATFORMS=platforms)
    return module


SCRIPTS = {name: script(name) for name in ("train", "sample", "evaluate", "ema", "compile_pod")}


SOURCES = functools.cache(inspect.getsource)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty working directory; and whatever is accepted, instead of training."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path.parent / "digits_of_these_tests"))
    monkeypatch.setattr(compilation_cache, "enable", lambda: None)
    monkeypatch.setattr(inspect, "getsource", SOURCES)  # tyro reads the files of all settings anew for every line

    def accepted(*args):
        raise AssertionError("these settings were accepted")

    monkeypatch.setattr(loop, "_check_start", accepted)
    return tmp_path


def tree(path):
    """All there is below a path, with contents and times."""
    return {
        str(p.relative_to(path)): (p.lstat().st_mtime_ns, p.read_bytes() if p.is_file() else None)
        for p in path.rglob("*")
    }


def one_line(out, err, named, line):
    assert out == "", line
    lines = err.splitlines()
    assert len(lines) == 1, (line, err)
    assert lines[0].startswith("error: "), (line, err)
    for words in named:
        assert words in lines[0], (line, err)


def called(name, argv):
    """What a script's last lines do."""
    main = SCRIPTS[name].main
    if name in ("train", "compile_pod"):
        with pytest.MonkeyPatch.context() as patch, command_line.reporting_errors():
            patch.setattr(sys, "argv", [f"{name}.py", *argv])
            main()
    else:
        command_line.run(main, argv, prog=f"{name}.py")


def refused(line, *named, name="train"):
    """Runs a script's command line in this process; it must be refused for a reason that holds all of `named`."""
    before, out, err = tree(Path.cwd()), io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as stop:
        called(name, shlex.split(line))
    assert stop.value.code == 2, line
    one_line(out.getvalue(), err.getvalue(), named, line)
    assert tree(Path.cwd()) == before, line


def fields():
    """Every field of every part of the settings: preset, part, name, type."""
    for preset in ("toy2d", "digits"):
        config = open_preset(preset).config
        for part in dataclasses.fields(config):
            if preset == "digits" and part.name != "network":
                continue
            settings = getattr(config, part.name)
            hints = typing.get_type_hints(type(settings))
            for field in dataclasses.fields(settings):
                hidden = field.name in ("parent", "name") and part.name == "network"
                if not hidden and not dataclasses.is_dataclass(getattr(settings, field.name)):
                    yield preset, part.name, field.name, kinds(hints[field.name])


def kinds(hint):
    """The types that a field may have, None left out."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return [kind for option in typing.get_args(hint) for kind in kinds(option) if kind is not type(None)]
    return [hint]


def wrong_type(kind):
    """Words that cannot be read as a type; none for text, of which any will do."""
    words = {int: "1.5", float: "abc", bool: "maybe", typing.Literal: "nosuch", tuple: "1 two", dict: "lonely"}
    return words.get(typing.get_origin(kind) or kind)


def out_of_range(kind):
    """Numbers that no setting of ours allows."""
    if typing.get_origin(kind) is tuple:
        return [(value, value) for value in out_of_range(typing.get_args(kind)[0])]
    return {int: [-1, -(10**20)], float: [float("nan"), float("inf"), -float("inf")]}.get(kind, [])


FIELDS = [pytest.param(*field, id=".".join(field[:3])) for field in fields()]


@pytest.mark.parametrize(("preset", "part", "field", "options"), FIELDS)
def test_every_flag_refuses_what_is_of_another_type(preset, part, field, options):
    flag = f"--{part}.{field.replace('_', '-')}"
    for word in {wrong_type(kind) for kind in options} - {None}:
        refused(f"{preset} {flag} {word}", flag)


# What a network itself refuses, once it is built: see `TRAIN`.
BUILT = {"width", "channels", "out_channels", "out_features", "head_channels", "norm_groups", "attention_levels"}


@pytest.mark.parametrize(("preset", "part", "field", "options"), FIELDS)
def test_every_setting_refuses_what_is_out_of_range(preset, part, field, options):
    """The check is the settings' own, so that a configuration from Python or from JSON meets it too."""
    config = open_preset(preset).config
    settings = getattr(config, part)
    numbers = [number for kind in options for number in out_of_range(kind)]
    for number in numbers if field not in BUILT else []:
        with pytest.raises(ValueError, match="allowed are") as error:
            dataclasses.replace(config, **{part: dataclasses.replace(settings, **{field: number})})
        assert "\n" not in str(error.value)
        assert str(number[0] if isinstance(number, tuple) else number) in str(error.value)
    saved = to_json(config)
    for changed, words in [
        ({field: {"no": ["such"]}}, field),
        ({field + "s": 1}, f"unknown setting {field}s; did you mean"),
    ]:
        with pytest.raises(ValueError, match=words) as error:
            from_json({**saved, part: {**saved[part], **changed}})
        assert "\n" not in str(error.value)


TRAIN = [
    ("", "no preset given", "digits"),
    ("digit", "'digit'", "did you mean 'digits'?"),
    ("--train.steps 3 digits", "preset comes before"),
    ("toy2d digits", "'digits'"),
    ("toy2d --nosuch.flag 1", "'--nosuch.flag'"),
    ("toy2d --train.steps 0", "steps = 0"),
    ("toy2d --train.steps 99999999999999999999", "steps = 99999999999999999999", "2**31"),
    ("toy2d --train.batch-size 0", "batch_size = 0"),
    ("toy2d --train.batch-size 99999999999999999999", "batch_size = 99999999999999999999"),
    ("toy2d --train.seed 4294967296", "seed = 4294967296"),
    ("toy2d --train.ema-widths 0.1 0.1", "ema_widths = (0.1, 0.1)", "different"),
    ("toy2d --train.ema-widths 0.1 0.3", "0.3", "0.2886"),
    ("toy2d --train.snapshot-every 10", "snapshot_every = 10", "ema_widths"),
    ("toy2d --train.log-every 0", "log_every = 0"),
    ("toy2d --train.keep 0", "keep = 0"),
    # data
    ("toy2d --data.name checkerbord", "data.name = 'checkerbord'", "did you mean 'checkerboard'?"),
    ("digits --data.name nosuch --data.data-dir .", "'nosuch'", "digits"),
    ("mnist --data.data-dir nosuch", "'mnist'", "data_dir = 'nosuch' is not a directory"),
    ("cifar10 --data.data-dir .", "'cifar10'", "data_dir = '.'"),
    ("digits --data.split nosuch", "split = 'nosuch'", "'train', 'test'"),
    ("digits --data.split train[:0]", "split = 'train[:0]'"),
    ("digits --data.name folder", "data_dir = None", "folder of pictures"),
    ("digits --data.name folder --data.data-dir nosuch", "'nosuch'", "not a folder"),
    ("digits --data.size 8", "size = 8", "'folder'"),
    ("digits --data.augment 1.5", "augment = 1.5", "0 to 1"),
    ("digits --data.augment 0.2 --data.flip", "flip = True", "augment"),
    ("toy2d --data.augment 0.2", "data.augment = 0.2", "(2,)"),
    ("digits --data.workers 2", "workers = 2", "'disk'"),
    ("digits --data.placement disc", "'disc'", "did you mean 'disk'?"),
    # diffusion
    ("toy2d --diffusion.process-options beta_min 3", "beta_min", "flow()"),
    ("toy2d --diffusion.process vp_linear --diffusion.process-options beta_min -3", "beta_min = -3"),
    ("toy2d --diffusion.process vp_linear --diffusion.process-options beta_min abc", "beta_min = 'abc'", "numbers"),
    ("toy2d --diffusion.process vp_linear --diffusion.process-options beta_min nan", "beta_min = nan"),
    ("toy2d --diffusion.parametrization edm", "'edm'", "Flow"),
    ("toy2d --diffusion.parametrization-options x 1", "parametrization_options = {'x': 1}"),
    ("toy2d --diffusion.weighting-options gamma 1", "weighting_options = {'gamma': 1}", "'output'"),
    ("toy2d --diffusion.weighting p2 --diffusion.weighting-options k abc", "k = 'abc'"),
    ("toy2d --diffusion.weighting p2 --diffusion.weighting-options k nan", "weighting_options.k = nan"),
    ("toy2d --diffusion.weighting min_snr --diffusion.weighting-options g 1", "min_snr()", "'g'"),
    ("toy2d --diffusion.times-options std 1", "times_options = {'std': 1}", "'uniform'"),
    ("toy2d --diffusion.times log_normal --diffusion.times-options mean abc", "mean = 'abc'"),
    ("toy2d --diffusion.times indices", "indices", "discrete", "Flow"),
    ("toy2d --diffusion.label-dropout 2", "label_dropout = 2.0"),
    # network
    ("digits --network.attention-levels 5", "attention_levels=(5,)", "[0, 1]"),
    ("digits --network.head-channels 7", "head_channels=7", "48"),
    ("digits --network.norm-groups 7", "norm_groups=7", "24"),
    ("digits --network.multipliers", "multipliers=()"),
    ("digits --network.multipliers 0 1", "multipliers = (0, 1)"),
    ("digits --network.channels 7", "features=7", "even"),
    ("digits --network.channels -8", "features=-8"),
    ("digits --network.attention-levels -1", "attention_levels=(-1,)"),
    ("digits --network.head-channels -3", "head_channels=-3"),
    ("digits --network.norm-groups -1", "norm_groups=-1"),
    ("digits --network.dropout 1", "dropout=1.0"),
    ("digits --network.dtype nosuch", "dtype = 'nosuch'", "bfloat16"),
    ("digits --network.dtype complex64", "dtype = 'complex64'"),
    ("digits --network.input-residual", "input_residual=True"),
    ("digits --network.resampling residual --network.resample-filter 0 0", "(0.0, 0.0)", "non-zero sum"),
    ("digits --network.out-channels 3", "(128, 8, 8, 3)", "(128, 8, 8, 1)"),
    ("digits --network.num-classes 3", "num_classes = 3"),
    ("digits --network.skip-scale 0", "skip_scale = 0.0"),
    ("toy2d --network.vector-features 3", "vector_features = 3"),
    ("toy2d --network.width 0", "features=0"),
    ("toy2d --network.width 100000000000", "Unable to allocate"),
    ("toy2d --network.num-blocks 1000000000", "num_blocks = 1000000000"),
    ("toy2d --network.depth 3", "unknown flag '--network.depth'"),
    ("digits --data.name checkerboard", "x has shape (1, 2)"),
    ("toy2d --data.name digits", "x has shape (1, 8, 8, 1)"),
    # optimizer
    ("toy2d --optimizer.schedule cosin", "'cosin'", "did you mean 'cosine'?"),
    ("toy2d --optimizer.learning-rate 0", "learning_rate = 0.0"),
    ("toy2d --optimizer.warmup 99999999999999999999", "warmup = 99999999999999999999"),
    ("toy2d --optimizer.beta1 1", "beta1 = 1.0"),
    # sample
    ("toy2d --sample.solver dim", "'dim'", "did you mean 'ddim'?"),
    ("toy2d --sample.solver-options eta -1", "eta = -1"),
    ("toy2d --sample.solver-options eta abc", "eta = 'abc'"),
    ("toy2d --sample.solver-options order 2", "ddim()", "'order'"),
    ("toy2d --sample.solver dpm_solver_pp --sample.solver-options order 9", "order = 9"),
    ("toy2d --sample.grid discrete", "discrete", "Flow"),
    ("toy2d --sample.grid karras", "sigma_max = inf"),
    ("toy2d --sample.grid-options rho 7", "uniform_time()", "'rho'"),
    ("toy2d --sample.steps 1000000000", "steps = 1000000000"),
    # parallel, on one device
    ("toy2d --parallel.fsdp 0", "fsdp = 0"),
    ("toy2d --parallel.fsdp 1000", "parallel.fsdp = 1000", "divisors"),
    ("toy2d --parallel.fsdp 2 --parallel.strategy single", "fsdp = 2"),
    ("toy2d --parallel.fsdp 2 --parallel.strategy pmap", "fsdp = 2"),
    ("toy2d --parallel.overrides nosuch 0", "nosuch"),
    ("toy2d --parallel.overrides ( 0", "'('", "no pattern"),
    ("toy2d --parallel.overrides dense_in first", "'first'", "axis"),
    ("toy2d --parallel.overrides dense_in -1", "'-1'", "axis"),
    ("toy2d --parallel.overrides dense_in 7", "axis 7"),
    ("toy2d --parallel.overrides dense_in 0 --parallel.strategy pmap", "overrides", "pmap"),
    ("toy2d --parallel.accumulate 3", "parallel.accumulate = 3", "1024"),
    ("toy2d --parallel.accumulate 2048", "parallel.accumulate = 2048"),
    ("toy2d --parallel.steps-per-call 3", "train.steps = 4000", "steps_per_call = 3"),
    ("toy2d --parallel.steps-per-call 100", "train.log_every = 50", "steps_per_call = 100"),
    # log
    ("toy2d --log.profile 0 3", "profile = (0, 3)"),
    ("toy2d --log.profile 5 3", "profile = (5, 3)"),
    ("toy2d --log.profile 5000 6000", "log.profile = (5000, 6000)", "4000"),
    ("toy2d --log.wandb ''", "wandb = ''"),
    # the other processes
    ("toy2d --processes 0", "processes = 0"),
    ("toy2d --processes 2", "processes = 2", "no coordinator"),
    ("toy2d --process 0", "process = 0", "no processes"),
    ("toy2d --coordinator localhost:1", "'localhost:1'", "no processes"),
    ("toy2d --coordinator localhost --processes 2 --process 0", "'localhost'", "HOST:PORT"),
    ("toy2d --coordinator localhost:99999 --processes 2 --process 0", "'localhost:99999'"),
    ("toy2d --coordinator localhost:1234 --processes 2 --process 2", "process = 2", "0 to 1"),
    ("toy2d --coordinator localhost:1234 --processes 2 --process -1", "process = -1"),
    # the run directory
    ("toy2d --run-dir", "--run-dir"),
    ("toy2d --run-dir /dev/null", "/dev/null is a file"),
    ("toy2d --run-dir /dev/null/x", "/dev/null/x", "cannot be written"),
    ("toy2d --run-dir /proc/x", "/proc/x", "cannot be written"),
]

# What is refused by the data, once they are open and the step is known to fit.
LATE = [
    ("toy2d --train.batch-size 10001", "batch_size = 10001", "1..10000"),
    ("toy2d --train.batch-size 10001 --data.placement device", "batch_size = 10001", "1..10000"),
    ("toy2d --data.flip", "flip = True", "(2,)"),
    ("toy2d --sample.guidance 2", "guidance = 2.0"),
    ("toy2d --run-dir None", "run_dir = None"),
    ("toy2d --log.wandb nosuch", "log.wandb = 'nosuch'", "pip install"),
]


@pytest.mark.parametrize("case", TRAIN + LATE, ids=lambda case: case[0] or "nothing")
def test_a_malformed_run_is_refused(case, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)  # as if it were not installed
    refused(*case)


@pytest.fixture
def run(folder):
    """A directory that holds another run, without a checkpoint."""
    run = create_run(folder / "other")
    config = open_preset("toy2d").config
    spec = recipe.describe_data(config, recipe.open_data(config.data))
    write_config(run, loop.saved_settings(config, spec))
    return run


def test_another_s_directory_is_left_as_it_is(run, folder):
    for line, words in [
        ("toy2d --train.seed 1", "train.seed was 0, is 1"),
        ("toy2d --data.name moons", "data.name was checkerboard, is moons"),
        ("digits", "data.name was checkerboard, is digits"),
    ]:
        refused(f"{line} --run-dir other", "other settings", words)
    with lock_run(run):
        # Held by this very process: as little allowed as by another.
        refused("toy2d --train.seed 1 --run-dir other", "other settings")
    saved = json.loads(run.config.read_text())
    for text, words in [
        ("{", "line 1"),
        ("[]", "not an object"),
        ("", "line 1"),
        ("{}", "'config' and 'data'"),
        (json.dumps({"config": saved["config"]}), "'config' and 'data'"),
    ]:
        run.config.write_text(text)
        refused("toy2d --run-dir other", "config.json", words)
    run.config.write_bytes(b"\xff\xfe")
    refused("toy2d --run-dir other", "config.json", "UTF-8")
    (folder / "file").write_text("text")
    refused("toy2d --run-dir file", "file", "not a directory")
    refused("toy2d --run-dir file/below", "file/below", "cannot be written")


def test_pictures_that_do_not_fit(folder):
    (folder / "empty").mkdir()
    refused("digits --data.name folder --data.data-dir empty", "'empty'", "no pictures")
    pictures = folder / "pictures"
    pictures.mkdir()
    for size in (8, 9):
        Image.fromarray(np.zeros((size, size), np.uint8)).save(pictures / f"{size}.png")
    line = "digits --data.name folder --data.data-dir pictures"
    refused(line, "size = None", "8x8", "9x9")
    refused(f"{line} --data.size 0", "size = 0")
    refused(f"{line} --data.size 8 --train.batch-size 3", "batch_size = 3", "1..2")
    (pictures / "8.png").write_bytes(b"no picture")
    refused(f"{line} --data.size 8 --train.batch-size 2", "8.png", "cannot be read")


@pytest.mark.parametrize(
    ("name", "line", "named"),
    [
        ("sample", "", ["missing", "RUN"]),
        ("sample", "nosuch", ["nosuch", "no such directory"]),
        ("sample", "other --count 0", ["count = 0"]),
        ("sample", "other --columns -1", ["columns = -1"]),
        ("sample", f"other --seed {2**64}", [f"seed = {2**64}"]),
        ("sample", "other --cuont 3", ["'--cuont'", "did you mean '--count'?"]),
        ("sample", "other --solver dimm", ["--solver", "'dimm'", "did you mean 'ddim'?"]),
        ("sample", "other --guidance strong", ["--guidance", "'strong'"]),
        ("sample", "other --out nosuch/grid.png", ["nosuch/grid.png", "a directory that exists"]),
        ("sample", "other --ema nosuch", ["'nosuch'", "ema"]),
        ("sample", "other", ["checkpoint"]),
        ("sample", "other extra", ["'extra'"]),
        ("evaluate", "", ["missing", "RUN"]),
        ("evaluate", "nosuch", ["nosuch", "no such directory"]),
        ("evaluate", "other --count -3", ["count = -3"]),
        ("evaluate", "other --seed x", ["--seed", "'x'"]),
        ("evaluate", "other --seed -1", ["seed = -1"]),
        ("evaluate", "other", ["checkpoint"]),
        ("ema", "other", ["missing --width"]),
        ("ema", "nosuch --width 0.1", ["nosuch", "no such directory"]),
        ("ema", "other --width wide", ["--width", "'wide'"]),
        ("ema", "other --width 0.4", ["width = 0.4"]),
        ("ema", "other --width nan", ["width = nan"]),
        ("ema", "other --width 0.1", ["snapshot"]),
        ("compile_pod", "", ["no preset given"]),
        ("compile_pod", "cifar", ["did you mean 'cifar10'?"]),
        ("compile_pod", "cifar10 --topolgy v5e:2x2", ["'--topolgy'", "did you mean '--topology'?"]),
        ("compile_pod", "cifar10 --shape 0", ["shape = (0,)"]),
        ("compile_pod", "cifar10 --classes -1", ["classes = -1"]),
        ("compile_pod", "cifar10 --data.name nosuch", ["'nosuch'", "--shape and --classes"]),
        ("compile_pod", "cifar10 --topology v99:2x2", ["v99:2x2"]),
    ],
)
def test_the_other_scripts_refuse_likewise(run, name, line, named):
    refused(line, *named, name=name)


EIGHT = "--xla_force_host_platform_device_count=8"


def test_as_processes_of_their_own(run, folder):
    """What only a whole process shows: warnings on standard error, threads that outlive it, and eight devices."""
    cases = [
        ("train", "toy2d --train.stesp 5", "", ["did you mean '--train.steps'?"]),
        ("train", "toy2d --coordinator here --processes 2 --process 0", "", ["coordinator = 'here'"]),
        ("train", "toy2d --run-dir other --train.seed 4", "", ["train.seed was 0, is 4"]),
        ("train", "toy2d --train.batch-size 1028", EIGHT, ["train.batch_size = 1028", "multiples of 8"]),
        ("train", "toy2d --train.batch-size 1032 --parallel.accumulate 2", EIGHT, ["multiples of 16"]),
        ("train", "toy2d --train.batch-size 12 --parallel.strategy pmap", EIGHT, ["train.batch_size = 12"]),
        ("train", "toy2d --parallel.fsdp 3", EIGHT, ["parallel.fsdp = 3", "8 devices"]),
        ("train", "toy2d --parallel.fsdp 8 --parallel.overrides dense_out.bias 0", EIGHT, ["(2,)", "8 devices"]),
        ("sample", "nosuch", "", ["nosuch", "no such directory"]),
        ("compile_pod", "cifar10 --shape 0", "", ["shape = (0,)"]),
    ]
    before = tree(folder)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": ""}
    started = [
        subprocess.Popen(
            [sys.executable, str(ROOT / "scripts" / f"{name}.py"), *shlex.split(line)],
            env={**environment, "XLA_FLAGS": flags},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name, line, flags, _ in cases
    ]
    for process, (name, line, _, named) in zip(started, cases, strict=True):
        out, err = process.communicate(timeout=300)
        assert process.returncode == 2, (name, line, err)
        one_line(out, err, named, line)
    assert tree(folder) == before


def test_what_is_accepted_would_be_noticed(folder):
    """The other way round: these tests tell a good line from a bad one."""
    data.prepare_digits(folder)
    with pytest.raises(AssertionError, match="accepted"):
        refused("toy2d --train.batch-size 32 --network.width 8 --network.num-blocks 1")
    assert (folder / "runs" / "toy2d").is_dir()
