"""The scripts: one command each from anywhere, and every mistake one line on standard error, status 2, nothing made."""

import json
import os
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxdiff import data

SCRIPTS = Path(__file__).parents[1] / "scripts"

TINY = "--train.steps 3 --train.batch-size 8 --sample.steps 2 --train.sample-every 0 --network.num-blocks 1"
SMALL_UNET = "--network.channels 8 --network.multipliers 1 --network.attention-levels --network.no-mid-attention"


def start(script, line, directory):
    """Runs a script as a user would, from another directory and with nothing of the tests' paths."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, str(SCRIPTS / f"{script}.py"), *shlex.split(line)]
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A directory with runs of labelled digits and of points without labels, trained by the script."""
    directory = tmp_path_factory.mktemp("place")
    data.prepare_digits(directory / "data")
    line = f"digits --data.data-dir data --network.dropout 0 {SMALL_UNET} {TINY}"
    assert start("train", line, directory) == ["runs/digits/samples/final.png"]
    line = f"toy2d --network.width 8 {TINY} --run-dir points"
    assert start("train", line, directory) == ["points/samples/final.png"]
    return directory


def pixels(path):
    return np.asarray(Image.open(path))


def test_train_leaves_a_run(place):
    run = place / "runs" / "digits"
    assert {"config.json", "checkpoints", "metrics.jsonl", "samples", "trainer.lock"} <= set(os.listdir(run))
    assert any(name.startswith("events.out.tfevents") for name in os.listdir(run))
    saved = json.loads((run / "config.json").read_text())
    assert saved["config"]["train"]["steps"] == 3
    assert saved["config"]["network"]["channels"] == 8
    assert saved["data"]["class_names"] == [str(i) for i in range(10)]
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [3]
    assert {"loss", "mse", "grad_norm"} <= set(lines[0])
    # Ten rows of ten digits, four pixels for one with a gap of two, a caption left of each row.
    height, width, channels = pixels(run / "samples" / "final.png").shape
    assert (height, channels) == (10 * 34 + 2, 3)
    assert 342 < width < 400
    assert pixels(place / "points" / "samples" / "final.png").shape == (384, 384, 3)


def test_sample_draws_what_is_asked_for(place):
    line = "runs/digits --label 3 --guidance 2 --solver dpm_solver_pp --steps 5 --count 6 --columns 3 --out grid.png"
    assert start("sample", line, place) == ["grid.png"]
    picture = pixels(place / "grid.png")
    assert picture.shape == (2 * 34 + 2, 3 * 34 + 2, 3)
    digits = [picture[2 + 34 * i : 34 + 34 * i, 2 + 34 * j : 34 + 34 * j] for i in range(2) for j in range(3)]
    assert len({digit.tobytes() for digit in digits}) == 6
    assert len(np.unique(digits)) > 10


def call(monkeypatch, script, line, directory):
    """Runs a script in this process; its exit status."""
    monkeypatch.chdir(directory)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")  # the script would turn it on for all tests after this one
    monkeypatch.setattr(sys, "argv", [f"{script}.py", *shlex.split(line)])
    monkeypatch.setattr(sys, "path", list(sys.path))
    try:
        runpy.run_path(str(SCRIPTS / f"{script}.py"), run_name="__main__")
    except SystemExit as stop:
        return stop.code
    return 0


def test_sample_draws_points_and_keeps_to_its_seed(place, tmp_path, monkeypatch, capfd):
    pictures = []
    for seed in (0, 0, 1):
        line = f"{place / 'points'} --count 50 --seed {seed} --out {tmp_path / 'p.png'}"
        assert call(monkeypatch, "sample", line, tmp_path) == 0
        pictures.append((tmp_path / "p.png").read_bytes())
    assert capfd.readouterr().out == f"{tmp_path / 'p.png'}\n" * 3
    assert pictures[0] == pictures[1] != pictures[2]
    assert pixels(tmp_path / "p.png").shape == (384, 384, 3)


def test_evaluate_prints_its_figures(place, monkeypatch, capfd):
    assert call(monkeypatch, "evaluate", "runs/digits --count 40 --data-dir data", place) == 0
    found = json.loads(capfd.readouterr().out)
    assert list(found) == ["step", "classifier", "label_accuracy", "precision", "recall", "memorised"]
    assert found["step"] == 3
    assert found["classifier"] > 0.95  # of real digits, held out
    assert found["label_accuracy"] < 0.6  # three steps teach nothing
    assert all(0 <= found[name] <= 1 for name in list(found)[1:])


BAD_TRAINING = [
    ("", ["preset", "digits", "toy2d"]),
    ("digit", ["'digit'", "did you mean 'digits'?"]),
    ("digits --trian.steps 5", ["'--trian.steps'", "did you mean '--train.steps'?"]),
    ("digits --train.steps many", ["--train.steps", "INT", "'many'"]),
    ("digits --train.steps 0", ["steps = 0", "positive"]),
    ("digits --optimizer.learning-rate -1", ["learning_rate = -1"]),
    ("digits --optimizer.schedule cosin", ["--optimizer.schedule", "did you mean 'cosine'?"]),
    ("digits --diffusion.process vp_cosin", ["--diffusion.process", "did you mean 'vp_cosine'?"]),
    ("digits --diffusion.process-options shfit 2", ["process_options = {'shfit': 2}", "shfit"]),
    ("digits --diffusion.process vp_cosine --diffusion.parametrization eps", ["eps"]),
    ("digits --data.data-dir data --diffusion.times indices", ["indices", "discrete"]),
    ("digits --sample.grid discrete", ["discrete"]),
    ("digits --sample.solver dpm_solver_pp --sample.solver-options order 4", ["order = 4"]),
    ("digits --data.name nosuchset", ["nosuchset"]),
    ("mnist --data.data-dir empty", ["mnist", "empty"]),
    ("digits --data.data-dir data --data.split tran", ["tran"]),
    ("digits --data.name folder", ["data_dir = None"]),
    ("digits --data.name folder --data.data-dir none", ["none"]),
    ("digits --data.name folder --data.data-dir empty", ["empty"]),
    ("digits --data.data-dir data --train.batch-size 2000", ["batch_size = 2000", "1..1438"]),
    ("digits --data.data-dir data --network.attention-levels 9", ["attention_levels=(9,)"]),
    ("digits --data.data-dir data --network.dtype float13", ["float13"]),
    ("toy2d --data.flip", ["flip = True"]),
    ("toy2d --data.name checkerboards", ["checkerboards"]),
    ("toy2d --run-dir file", ["run directory", "file"]),
    ("toy2d --run-dir file/run", ["run directory", "file"]),
    ("toy2d --run-dir /proc/run", ["run directory", "/proc/run"]),
    ("toy2d --network.width 8 --run-dir points", ["other settings", "train.steps was 3, is 4000", "choose another"]),
]


def one_line(capfd):
    out, err = capfd.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1, err
    assert err.startswith("error: ")
    return err


@pytest.mark.parametrize(("line", "named"), BAD_TRAINING, ids=[line or "nothing" for line, _ in BAD_TRAINING])
def test_a_bad_training_is_one_line_and_leaves_nothing(place, line, named, monkeypatch, capfd):
    (place / "empty").mkdir(exist_ok=True)
    (place / "file").write_text("precious")
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*")}
    line += "" if "--run-dir" in line or not line else " --run-dir new"
    assert call(monkeypatch, "train", line, place) == 2
    message = one_line(capfd)
    for words in named:
        assert words in message
    assert {path: path.stat().st_mtime_ns for path in place.rglob("*")} == before


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("", ["missing RUN"]),
        ("none", ["none", "no such directory"]),
        ("data", ["config.json"]),
        ("runs/digits --lable 3", ["'--lable'", "did you mean '--label'?"]),
        ("runs/digits --label three", ["--label", "INT", "'three'"]),
        ("runs/digits --label 10", ["label = 10", "0 to 9"]),
        ("points --label 1", ["label = 1", "no classes"]),
        ("points --guidance 2", ["guidance_scale = 2", "no classes"]),
        ("runs/digits --solver dpm_solverpp", ["--solver", "did you mean 'dpm_solver_pp'?"]),
        ("runs/digits --grid discrete", ["discrete"]),
        ("runs/digits --steps 0", ["steps = 0"]),
        ("runs/digits --count 0", ["count = 0"]),
        ("runs/digits --columns -1", ["columns = -1"]),
        ("runs/digits --out none/grid.png", ["out = none/grid.png"]),
        ("runs/digits --out data", ["out = data"]),
    ],
)
def test_a_bad_request_for_samples_is_one_line(place, line, named, monkeypatch, capfd):
    before = set(place.rglob("*"))
    assert call(monkeypatch, "sample", line, place) == 2
    message = one_line(capfd)
    for words in named:
        assert words in message
    assert set(place.rglob("*")) == before


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("none", ["none", "no such directory"]),
        ("points", ["points", "no labels"]),
        ("runs/digits --count 0", ["count = 0"]),
        ("runs/digits --cuont 5", ["'--cuont'", "did you mean '--count'?"]),
    ],
)
def test_a_bad_evaluation_is_one_line(place, line, named, monkeypatch, capfd):
    before = set(place.rglob("*"))
    assert call(monkeypatch, "evaluate", line, place) == 2
    message = one_line(capfd)
    for words in named:
        assert words in message
    assert set(place.rglob("*")) == before


def test_a_typo_is_answered_before_anything_slow_is_imported(tmp_path):
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['train.py', 'digits', '--trian.steps', '5']\n"
        "try:\n"
        f"    runpy.run_path({str(SCRIPTS / 'train.py')!r}, run_name='__main__')\n"
        "except SystemExit as stop:\n"
        "    print(stop.code, *sorted({'grain', 'orbax', 'tensorflow_datasets', 'tensorboardX'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["2"]
    assert done.stderr == "error: unknown flag '--trian.steps'; did you mean '--train.steps'?\n"
    assert os.listdir(tmp_path) == []
