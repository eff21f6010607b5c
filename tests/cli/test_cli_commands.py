"""The commands work from any directory, and every mistake is one line on standard error, status 2, and no new file.

`tests/runs/test_runs_refused.py` holds the refusals one by one; here is one of each kind, from the script to the line.
"""

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

SCRIPTS = Path(__file__).parents[2] / "scripts"

TINY = "--train.steps 3 --train.batch-size 8 --sample.steps 2 --train.sample-every 0 --network.num-blocks 1"
# A preset in a file of its own, as a user would write it.
PRESET = '''"""Digits, tiny."""
import dataclasses
from jaxdiff.networks import UNet
from jaxdiff.presets.digits import CONFIG as DIGITS

CONFIG = dataclasses.replace(DIGITS, network=UNet(channels=8, multipliers=(1,), attention_levels=(), mid_attention=False))
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


@pytest.fixture
def call(place, monkeypatch):
    """Runs a script in this process, in the directory above; returns its exit status."""

    def run(script, line):
        monkeypatch.chdir(place)
        monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")  # otherwise the script turns the cache on for later tests
        monkeypatch.setattr(sys, "argv", [f"{script}.py", *shlex.split(line)])
        try:
            runpy.run_path(str(SCRIPTS / f"{script}.py"), run_name="__main__")
        except SystemExit as stop:
            return stop.code
        return 0

    return run


@pytest.fixture(scope="module")
def points(place):
    """A run of points without labels, in the same directory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("JAX_COMPILATION_CACHE_DIR", "")
        patch.setattr(sys, "argv", ["train.py", *shlex.split(f"toy2d --network.width 8 {TINY} --run-dir points")])
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
    assert saved["config"]["network"]["channels"] == 8
    assert saved["data"]["class_names"] == [str(i) for i in range(10)]
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [3]
    assert {"loss", "mse", "grad_norm"} <= set(lines[0])
    # Ten rows of ten digits; a pixel becomes four, with a gap of two, and each row has a caption to its left.
    height, width, channels = pixels(run / "samples" / "final.png").shape
    assert (height, channels) == (10 * 34 + 2, 3)
    assert 342 < width < 400
    assert pixels(points / "samples" / "final.png").shape == (384, 384, 3)


def test_sample_draws_the_requested_picture(place, call, capfd):
    line = "runs/tiny --label 3 --guidance 2 --solver dpm_solver_pp --steps 5 --count 6 --columns 3 --out grid.png"
    assert call("sample", line) == 0
    assert capfd.readouterr().out == "grid.png\n"
    picture = pixels(place / "grid.png")
    assert picture.shape == (2 * 34 + 2, 3 * 34 + 2, 3)
    digits = [picture[2 + 34 * i : 34 + 34 * i, 2 + 34 * j : 34 + 34 * j] for i in range(2) for j in range(3)]
    assert len({digit.tobytes() for digit in digits}) == 6
    assert len(np.unique(digits)) > 10


def test_sample_draws_points_and_keeps_to_its_seed(points, call, tmp_path, capfd):
    pictures = []
    for seed in (0, 0, 1):
        assert call("sample", f"points --count 50 --seed {seed} --out {tmp_path / 'p.png'}") == 0
        pictures.append((tmp_path / "p.png").read_bytes())
    assert capfd.readouterr().out == f"{tmp_path / 'p.png'}\n" * 3
    assert pictures[0] == pictures[1] != pictures[2]
    assert pixels(tmp_path / "p.png").shape == (384, 384, 3)


def test_evaluate_prints_its_figures(call, capfd):
    assert call("evaluate", "runs/tiny --count 40") == 0
    found = json.loads(capfd.readouterr().out)
    assert list(found) == ["step", "classifier", "label_accuracy", "precision", "recall", "memorised"]
    assert found["step"] == 3
    assert found["classifier"] > 0.95  # the accuracy on held-out real digits
    assert found["label_accuracy"] < 0.6  # a model of three steps has learned nothing
    assert all(0 <= found[name] <= 1 for name in list(found)[1:])


@pytest.mark.parametrize(
    ("script", "line", "named"),
    [
        ("train", "", ["missing PRESET"]),
        ("train", "digit", ["preset = 'digit'", "did you mean 'digits'?"]),
        ("train", "absent.py", ["preset absent.py: there is no such file"]),
        ("train", "digits --train.steps many", ["--train.steps", "INT", "'many'"]),
        ("train", "digits --train.steps 0", ["steps = 0"]),
        ("train", "digits --sample.grid discrete", ["discrete"]),
        ("train", "mnist --data.data-dir empty", ["mnist", "empty"]),
        ("train", "tiny.py --network.dtype float13 --run-dir new", ["float13"]),
        ("train", "toy2d --network.width 8 --run-dir points", ["other settings", "train.steps was 3, is 4000"]),
        ("sample", "", ["missing RUN"]),
        ("sample", "runs", ["config.json"]),
        ("sample", "runs/tiny --lable 3", ["'--lable'", "did you mean '--label'?"]),
        ("sample", "runs/tiny --label 10", ["label = 10", "0 to 9"]),
        ("sample", "points --label 1", ["label = 1", "no classes"]),
        ("sample", "points --guidance 2", ["guidance_scale = 2", "no classes"]),
        ("sample", "runs/tiny --grid discrete", ["discrete"]),
        ("sample", "runs/tiny --steps 0", ["steps = 0"]),
        ("sample", "runs/tiny --seed -1", ["seed = -1"]),
        ("sample", "runs/tiny --out runs", ["out = runs; allowed are files in an existing directory"]),
        ("evaluate", "points", ["run = 'points'; allowed are runs of a model with labels"]),
        ("evaluate", "runs/tiny --count 0", ["count = 0"]),
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
