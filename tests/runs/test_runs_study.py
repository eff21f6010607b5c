"""Jobs in processes of their own, as users start them: ended, resumed, and equal to a run without interruption.

The short form of `scripts/studies/kills.py` and `resume.py`, on `scripts/studies/distillation.py`: with a frozen teacher, an encoder of
captions that is trained jointly, and an objective with parameters and mutable values of its own.
"""

import importlib.util
import shlex
import shutil
import signal
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from jaxdiff.cli import command_line
from jaxdiff.cli.train import Arguments
from jaxdiff.runs.config import Config
from jaxdiff.runs.loop import train

STUDIES = Path(__file__).parents[2] / "scripts" / "studies"


def from_studies(name):
    """A module in this folder, which is no package."""
    spec = importlib.util.spec_from_file_location(name, STUDIES / f"{name}.py")
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


processes = from_studies("processes")
chains = from_studies("chains")

STEPS = 100
PRESET = str(processes.DISTILLATION)
SHORT = shlex.split(
    "--train.batch-size 16 --train.log-every 1 --train.checkpoint-every 10 --train.sample-every 0 --sample.steps 2"
)


def finish_here(line, run):
    """Trains the run to its end in this process, on one device."""
    arguments, _ = command_line.parse_preset(Arguments, line, prog="train.py")
    train(command_line.narrowed(arguments, Config), run)


@pytest.fixture
def shared_cache(tmp_path, monkeypatch):
    """A cache of compiled programs for the runs in this process and for its children."""
    settings = {"compilation_cache_dir": str(tmp_path / "compiled"), "persistent_cache_min_compile_time_secs": 0.0}
    before = {name: jax.config.values[f"jax_{name}"] for name in settings}
    for name, value in settings.items():
        monkeypatch.setenv(f"JAX_{name.upper()}", str(value))
        jax.config.update(f"jax_{name}", value)
    compilation_cache.reset_cache()
    yield
    for name, value in before.items():
        jax.config.update(f"jax_{name}", value)
    compilation_cache.reset_cache()


@pytest.mark.long
def test_killed_in_a_save_and_terminated_on_other_processes_a_job_comes_to_the_same(tmp_path, shared_cache):
    whole, run = tmp_path / "whole", tmp_path / "run"
    finish_here([PRESET, "--objective.kind", "Denoising", *SHORT, "--train.steps", "1"], tmp_path / "teacher")
    line = [PRESET, "--objective.teacher", str(tmp_path / "teacher"), *SHORT, "--train.steps", str(STEPS)]
    finish_here(line, whole)

    chains.Chain(line, run, seed=0).killed_in_a_save()
    made = processes.lines(run)[-1]["step"]
    assert made < STEPS
    shutil.copytree(run, tmp_path / "resumed")
    finish_here(line, tmp_path / "resumed")
    chains.same(tmp_path / "resumed", whole)

    # Two processes of two devices, over Gloo, resume the run of one process. A signal to one of them ends both.
    started = processes.start(processes.Way(devices=2, processes=2), [*line, "--parallel.fsdp", "2"], run)
    while processes.lines(run)[-1]["step"] < made + 4 and all(process.poll() is None for process in started):
        time.sleep(0.01)
    started[1].send_signal(signal.SIGTERM)
    last_lines = [process.communicate(timeout=60)[1].splitlines()[-1] for process in started]
    assert [process.returncode for process in started] == [143, 143], last_lines
    assert all(line.startswith("error: terminated by SIGTERM") for line in last_lines), last_lines
    newest = max(int(path.name) for path in (run / "checkpoints").iterdir() if path.name.isdecimal())
    assert made < newest == processes.lines(run)[-1]["step"] < STEPS

    finish_here(line, run)
    # Another order of sums changes the first losses by 1e-7, and further steps increase the difference. Other noise or
    # other data would change the losses themselves.
    found, wanted = (np.array([line["loss"] for line in processes.lines(path)]) for path in (run, whole))
    np.testing.assert_allclose(found, wanted, rtol=1e-4)
    state, reference = processes.final_state(run), processes.final_state(whole)
    trained = ("['params']", "['ema']", "['extra']")
    assert max(np.abs(state[name] - reference[name]).max() for name in state if name.startswith(trained)) < 1e-3
    # The teacher is no part of the checkpoints: the state has one network, in the parameters and in the average.
    assert len([name for name in state if name.startswith(trained) and "dense_in']['kernel']" in name]) == 2
    assert any("conditions" in name for name in state)
    assert any("objective" in name for name in state)
    assert chains.place(run)["batches"] == chains.place(whole)["batches"] == {"next": STEPS}
