"""The commands work from any directory, and every mistake is one line on standard error, status 2, and no new file.

`tests/runs/test_runs_refused.py` holds the refusals one by one; here is one of each kind, from the script to the line.
"""

import dataclasses
import json
import os
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from run_files import origin_of

from jaxdiff.cli.sample import Arguments, _wishes, read_value
from jaxdiff.components import Part, Table
from jaxdiff.conditions import Label
from jaxdiff.data import Field
from jaxdiff.guidance import Guidance
from jaxdiff.media import watermark
from jaxdiff.media.pixels import NOT_FINITE
from jaxdiff.models import DiffusionModel, Sampling
from jaxdiff.models.conditioned import Conditions
from jaxdiff.runs.load import load
from jaxdiff.runs.origin import origin
from jaxdiff.version import __version__

SCRIPTS = Path(__file__).parents[2] / "scripts"

TINY = "--train.steps 3 --train.batch-size 8 --sample.steps 2 --train.sample-every 0 --model.network.num-blocks 1"
# A preset in a file of its own, as a user would write it, with a condition of its own.
PRESET = '''"""Digits, tiny."""
import dataclasses
from jaxdiff.conditions import Label
from jaxdiff.networks import UNet
from jaxdiff.presets.digits import CONFIG as DIGITS

@dataclasses.dataclass(frozen=True)
class Digit(Label):
    """A label that is always shown."""
    dropout: float = 0.0

NETWORK = UNet(channels=8, multipliers=(1,), attention_levels=(), mid_attention=False)
MODEL = dataclasses.replace(DIGITS.model, network=NETWORK, conditions={"label": Digit()})
CONFIG = dataclasses.replace(DIGITS, model=MODEL)
'''


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A directory with a run of labelled digits, trained by a process as a user starts it."""
    directory = tmp_path_factory.mktemp("place")
    (directory / "tiny.py").write_text(PRESET)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    line = f"tiny.py {TINY}"
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / "train.py"), *shlex.split(line)],
        cwd=directory, env=environment, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["runs/tiny/samples/final.png"]
    return directory


IN_TINY = "runs/tiny --import tiny.py"


@pytest.fixture
def call(place, monkeypatch):
    """Runs a script in this process, in the directory above; returns its exit status."""

    def run(script, line):
        monkeypatch.chdir(place)
        monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")  # otherwise the script turns the cache on for later tests
        monkeypatch.setattr(sys, "argv", [f"{script}.py", *shlex.split(line)])
        monkeypatch.delitem(sys.modules, "tiny", raising=False)  # a process of its own would not know this module
        try:
            runpy.run_path(str(SCRIPTS / f"{script}.py"), run_name="__main__")
        except SystemExit as stop:
            return stop.code
        return 0

    return run


POINTS = (
    f"toy2d --model.network.width 8 {TINY} --run-dir points --optimizer.schedule constant "
    "--train.log-every 1 --train.ema-widths 0.05 0.1 --train.snapshot-every 1"
)


@pytest.fixture(scope="module")
def points(place):
    """A run of points without labels, in the same directory: trained for 3 steps, and resumed for 5 more."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("JAX_COMPILATION_CACHE_DIR", "")
        for more in ("", " --train.steps 8"):
            patch.setattr(sys, "argv", ["train.py", *shlex.split(POINTS + more)])
            runpy.run_path(str(SCRIPTS / "train.py"), run_name="__main__")
    return place / "points"


def pixels(path):
    return np.asarray(Image.open(path))


def test_train_leaves_a_run(place, points):
    run = place / "runs" / "tiny"
    assert {"config.json", "checkpoints", "metrics.jsonl", "samples", "trainer.lock"} <= set(os.listdir(run))
    assert any(name.startswith("events.out.tfevents") for name in os.listdir(run))
    saved = json.loads((run / "config.json").read_text())
    assert saved["config"]["train"]["steps"] == 3
    assert saved["config"]["model"]["network"]["channels"] == 8
    assert saved["config"]["model"]["conditions"]["label"]["kind"] == "tiny:Digit"
    assert saved["imports"] == ["tiny"]
    assert saved["data"]["fields"]["label"]["names"] == [str(i) for i in range(10)]
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [3]
    assert {"loss", "mse", "grad_norm"} <= set(lines[0])
    assert pixels(run / "samples" / "final.png").shape[-1] == 3
    assert pixels(points / "samples" / "final.png").shape == (384, 384, 3)


def test_the_same_command_resumes(points):
    lines = [json.loads(line) for line in (points / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 9))
    # The second start went on from a checkpoint: the lines of the first start are still there.
    assert lines[2]["time"] < lines[3]["time"]
    assert {"3", "8"} <= set(os.listdir(points / "checkpoints"))


def test_ema_makes_an_average_that_sample_takes(points, call, tmp_path, capfd):
    assert call("ema", "points --width 0.08") == 0
    found = json.loads(capfd.readouterr().out)
    assert (found["ema"], found["step"], found["path"]) == ("power_0.08", 8, str(points / "averages/power_0.08/8"))
    pictures = []
    for ema in ("power_0.08", "0.08"):
        assert call("sample", f"points --count 20 --ema {ema} --out {tmp_path / 'p.png'}") == 0
        pictures.append(pixels(tmp_path / "p.png"))
    np.testing.assert_array_equal(*pictures)
    averaged, last = (jax.tree.leaves(load(points, ema=ema).params)[0] for ema in ("power_0.08", None))
    assert not np.array_equal(averaged, last)


def test_sample_draws_what_is_asked_for(place, call, capfd):
    line = "runs/tiny --import tiny.py --ask label=3 --guidance.scale 2 --solver.kind dpm_solver_pp --steps 5 --count 6"
    assert call("sample", f"{line} --out grid.png") == 0
    assert capfd.readouterr().out == "grid.png\n"
    picture = pixels(place / "grid.png")
    assert len(np.unique(picture)) > 10
    assert call("sample", f"{line} --out other.png --ask label=4") == 0
    assert not np.array_equal(pixels(place / "other.png"), picture)
    # Without a wish, the classes take turns, and each sample has its caption.
    assert call("sample", "runs/tiny --import tiny.py --count 6 --out turns.png") == 0
    assert pixels(place / "turns.png").size > picture.size


def test_sample_draws_points_and_keeps_to_its_seed(points, call, tmp_path, capfd):
    pictures = []
    for seed in (0, 0, 1):
        assert call("sample", f"points --count 50 --seed {seed} --out {tmp_path / 'p.png'}") == 0
        pictures.append((tmp_path / "p.png").read_bytes())
    assert capfd.readouterr().out == f"{tmp_path / 'p.png'}\n" * 3
    assert pictures[0] == pictures[1] != pictures[2]
    assert pixels(tmp_path / "p.png").shape == (384, 384, 3)


def test_pictures_say_that_the_weights_were_small(points, call, tmp_path, capfd):
    drawn = {}
    for weights in ("float32", "bfloat16", "int8"):
        assert call("sample", f"points --count 50 --weights {weights} --out {tmp_path / weights}.png") == 0
        drawn[weights] = origin_of(tmp_path / f"{weights}.png").get("weights")
    assert drawn == {"float32": None, "bfloat16": "bfloat16", "int8": "int8"}
    capfd.readouterr()
    for line, text in (("--weights int4", "--weights = 'int4'"), ("--tile 8", "model = 'Pixels'; allowed are models")):
        assert call("sample", f"points --count 5 {line} --out {tmp_path / 'never.png'}") == 2
        assert text in capfd.readouterr().err
    assert not (tmp_path / "never.png").exists()


def test_samples_that_are_not_finite_are_written_and_told(place, call, capfd):
    assert call("sample", f"{IN_TINY} --ask label=3 --guidance.scale 1e30 --count 3 --out lost.png") == 2
    out, err = capfd.readouterr()
    assert out == "lost.png\n"
    assert err == (
        "error: 3 of 3 samples hold numbers that are not finite; weaker guidance, more steps or another solver may help\n"
    )
    assert ((pixels(place / "lost.png") == NOT_FINITE).all(-1)).any()


def test_pictures_say_where_they_come_from(place, points, call):
    drawn = origin_of(place / "runs" / "tiny" / "samples" / "final.png")
    assert [drawn[name] for name in ("run", "step", "seed", "ema", "version")] == ["tiny", 3, 1, "ema", __version__]
    assert drawn["conditions"] == [str(i) for i in range(10)]
    assert drawn["sampling"]["steps"] == 2
    assert origin_of(points / "samples" / "final.png")["conditions"] == []
    line = f"sample {place / 'runs' / 'tiny'} --import tiny.py --ask label=3 --guidance.scale 2 --seed 4"
    assert call(*f"{line} --solver.kind dpm_solver_pp --steps 5 --count 6 --out told.png".split(maxsplit=1)) == 0
    told = origin_of(place / "told.png")
    sampling = told.pop("sampling")
    assert (sampling["solver"]["kind"], sampling["steps"]) == ("dpm_solver_pp", 5)
    assert sampling["guidance"] == {"kind": "ClassifierFree", "scale": 2.0, "negative": {}}
    assert told == {
        "run": "tiny", "step": 3, "seed": 4, "ema": "ema", "conditions": {"label": 3}, "version": __version__
    }  # fmt: skip
    assert call("sample", f"{IN_TINY} --count 3 --ema none --out turns.png") == 0
    told = origin_of(place / "turns.png")
    assert (told["ema"], told["conditions"]) == (None, {"label": [*range(10)]})


def test_no_directory_and_no_other_picture_goes_into_an_origin(tmp_path):
    """A wish may be a picture, and a setting may be the path of another run."""

    @dataclasses.dataclass(frozen=True)
    class Guided(Guidance):
        run: Part = ""

    found = origin(
        tmp_path / "secret" / "run", 1, seed=0, ema=0.05, conditions={},
        sampling=Sampling(guidance=Guided(run=str(tmp_path / "secret" / "weak"))),
    )  # fmt: skip
    assert (found["run"], found["sampling"]["guidance"]["run"]) == ("run", "weak")
    assert "secret" not in json.dumps(found)


def test_a_watermark_that_is_asked_for_is_in_the_picture(call, place):
    pytest.importorskip("cv2", reason="the extra `watermark` is not installed")
    line = f"{IN_TINY} --ask label=3 --count 36"
    assert call("sample", f"{line} --out plain.png") == 0
    assert call("sample", f"{line} --out marked.png --watermark") == 0
    assert [watermark.is_marked(place / name) for name in ("plain.png", "marked.png")] == [False, True]
    assert origin_of(place / "plain.png") == origin_of(place / "marked.png")


def test_a_watermark_is_refused_before_samples_are_drawn(call, place, capfd, monkeypatch):
    monkeypatch.setattr(DiffusionModel, "sample", None)
    monkeypatch.setitem(sys.modules, "blind_watermark", None)
    line = f"{IN_TINY} --ask label=3 --count 1 --watermark --out refused.png"
    assert call("sample", line) == 2
    absent = capfd.readouterr().err
    monkeypatch.setattr(watermark, "import_library", lambda: None)
    assert call("sample", line) == 2
    small = capfd.readouterr().err
    assert "pip install 'jaxdiff[watermark]'" in absent
    assert small.startswith("error: size of the picture = (36, 36); allowed are sizes of at least 224 blocks")
    assert [err.count("\n") for err in (absent, small)] == [1, 1]
    assert not (place / "refused.png").exists()


def test_evaluate_prints_its_figures(call, capfd):
    """By a rule of guidance that makes every picture grey, so that a classifier reads one class in ten rightly."""
    rule = "--guidance.kind StaticThreshold --guidance.low 0 --guidance.high 1e-6 --steps 2"
    assert call("evaluate", f"runs/tiny --import tiny.py --count 40 {rule}") == 0
    found = json.loads(capfd.readouterr().out)
    assert list(found) == ["step", "classifier", "label_accuracy", "precision", "recall", "memorised"]
    assert found["step"] == 3
    assert found["classifier"] > 0.95  # the accuracy on held-out real digits
    assert found["label_accuracy"] == 0.1
    assert all(0 <= found[name] <= 1 for name in list(found)[1:])


@pytest.mark.parametrize(
    ("script", "line", "named"),
    [
        ("train", "", ["missing PRESET"]),
        ("train", "digit", ["preset = 'digit'", "did you mean 'digits'?"]),
        ("train", "absent.py", ["preset absent.py: there is no such file"]),
        ("train", "digits --train.steps many", ["--train.steps = 'many'", "integers"]),
        ("train", "digits --train.steps 0", ["--train.steps = 0"]),
        ("train", "digits --sample.grid.kind discrete", ["sample.grid", "discrete"]),
        ("train", "mnist --data.data-dir empty", ["mnist", "empty"]),
        ("train", "tiny.py --model.network.dtype float13 --run-dir new", ["float13"]),
        (
            "train",
            "toy2d --model.network.width 8 --run-dir points",
            ["other settings", "train.batch_size was 8, is 1024"],
        ),
        ("train", "toy2d --part teacher=points --run-dir new", ["part = 'teacher'", "the parts of the run: none"]),
        ("train", "toy2d --run-dir 'lr=[1e-3]'", ["run directory = ", "lr=[1e-3]'; allowed are local paths"]),
        ("sample", "", ["missing RUN"]),
        ("sample", "runs", ["config.json"]),
        ("sample", "runs/tiny --ask label=3", ["tiny is not imported", "--import it"]),
        ("sample", "points --aks label=3", ["'--aks'", "did you mean '--ask'?"]),
        ("sample", f"{IN_TINY} --ask label=10", ["label = 10", "0 to 9"]),
        ("sample", f"{IN_TINY} --ask lable=1", ["condition = 'lable'", "did you mean 'label'?"]),
        ("sample", "points --ask label=1", ["condition = 'label'", "none"]),
        ("sample", "points --guidance.scale 2", ["guidance = ClassifierFree(scale=2.0", "nothing is asked for"]),
        ("sample", f"{IN_TINY} --grid.kind discrete", ["sample.grid", "discrete"]),
        ("sample", "points --steps 0", ["steps = 0"]),
        ("sample", "points --seed -1", ["seed = -1"]),
        ("sample", "points --out runs", ["out = runs; allowed are files in an existing directory"]),
        ("evaluate", "points", ["run = 'points'; allowed are runs of a diffusion model with a condition 'label'"]),
        ("evaluate", "points --count 0", ["count = 0"]),
        ("evaluate", "points --guidance 2", ["--guidance = '2'", "--guidance.kind"]),
        ("evaluate", "points --part teacher=points", ["part = 'teacher'", "the parts of the run: none"]),
        ("ema", "points", ["missing --width"]),
        ("ema", "points --width 0.05", ["width = 0.05", "those in the run already"]),
        ("ema", f"{IN_TINY} --width 0.05", ["ema = 0.05 needs snapshots"]),
        ("compile_pod", "toy2d --topology v5e:3", ["topology = 'v5e:3'", "did you mean 'v5e:2x2'?"]),
        ("compile_pod", "tiny.py --shape 0", ["shape = (0,)"]),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(place, points, call, script, line, named, capfd):
    (place / "empty").mkdir(exist_ok=True)
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*")}
    assert call(script, line) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1, err
    assert err.startswith("error: ")
    for words in named:
        assert words in err
    assert {path: path.stat().st_mtime_ns for path in place.rglob("*")} == before


@pytest.mark.parametrize("line", ["train toy2d --run-dir new", "sample points", "ema points --width 0.07"])
def test_a_platform_that_is_not_there_is_one_line(place, points, call, line, capfd, monkeypatch):
    def devices():
        raise AssertionError  # as `jax.devices` with JAX_PLATFORMS=cuda on a machine without CUDA

    monkeypatch.setattr(jax, "devices", devices)
    assert call(*line.split(" ", 1)) == 2
    assert capfd.readouterr().err.startswith("error: JAX_PLATFORMS = ")
    assert not (place / "new").exists()


def test_a_typo_is_reported_before_slow_imports(tmp_path):
    code = (
        "import runpy, sys\n"
        "sys.argv = ['train.py', 'digits', '--trian.steps', '5']\n"
        "try:\n"
        f"    runpy.run_path({str(SCRIPTS / 'train.py')!r}, run_name='__main__')\n"
        "except SystemExit as stop:\n"
        "    print(stop.code, *sorted({'grain', 'orbax', 'tensorflow_datasets', 'tensorboardX'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["2"]
    assert done.stderr == "error: unknown flag '--trian.steps'; did you mean '--train.steps'?\n"
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("text", "value"), [("20", 1), ("1", 1), ("nan", 2), ("cat", "cat")])
def test_a_class_whose_name_is_a_number_is_asked_for_by_its_name(text, value):
    names = ("10", "20", "nan", "cat")
    conditions = Conditions({"label": Label()}, Table(label=Field("label", (), "int32", 4, names)))
    found = _wishes(Arguments(run=Path("run"), ask={"label": text}), conditions)
    assert found == ({"label": value}, {"label": value})


def test_a_value_that_is_asked_for_is_a_number_a_picture_or_text(tmp_path):
    """The pixels of a palette get their colours, and transparent pixels are white."""
    path = tmp_path / "red.png"
    picture = Image.new("RGBA", (4, 3), (255, 0, 0, 255))
    picture.putpixel((0, 0), (0, 0, 0, 0))
    for stored in (picture, picture.quantize(4)):
        stored.save(path)
        value = read_value(str(path))
        assert value.shape == (3, 4, 3)
        assert (value[0, 0] == 255).all()
        assert (value[1:] == [255, 0, 0]).all()
    Image.new("L", (4, 3), 7).save(path)
    assert (read_value(str(path)) == np.full((3, 4, 1), 7)).all()
    assert [read_value(text) for text in ("3", "-0.5", "a cat", "cat.png")] == [3, -0.5, "a cat", "cat.png"]
