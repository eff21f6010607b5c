"""Jobs in processes of their own, as users start them: ended, resumed, and equal to a run without interruption.

The short form of `scripts/studies/resume.py`, on points in the plane.
"""

import importlib.util
import shlex
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np

from jaxdiff.cli import command_line
from jaxdiff.cli.train import Arguments
from jaxdiff.runs.loop import train

STUDIES = Path(__file__).parents[2] / "scripts" / "studies"


def from_studies(name):
    """A module in this folder, which is no package."""
    spec = importlib.util.spec_from_file_location(name, STUDIES / f"{name}.py")
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


processes = from_studies("processes")
resume = from_studies("resume")

STEPS = 400
TOY = shlex.split(
    f"toy2d --network.width 16 --network.num-blocks 1 --network.dropout 0.1 --train.batch-size 64 --train.log-every 1 "
    f"--train.checkpoint-every 20 --train.sample-every 0 --sample.steps 2 --optimizer.schedule constant "
    f"--train.steps {STEPS}"
)


def finish_here(run):
    """Trains the run to its end in this process, on one device."""
    arguments, _ = command_line.parse_preset(Arguments, TOY, prog="train.py")
    train(command_line.config_of(arguments), run)


def test_killed_in_a_save_and_terminated_on_other_processes_a_job_comes_to_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "compiled"))
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    whole, run = tmp_path / "whole", tmp_path / "run"
    finish_here(whole)

    resume.Chain(TOY, run, seed=0).killed_in_a_save()
    made = processes.lines(run)[-1]["step"]
    assert made < STEPS
    shutil.copytree(run, tmp_path / "resumed")
    finish_here(tmp_path / "resumed")
    resume.same(tmp_path / "resumed", whole)

    # Two processes of two devices, over Gloo, resume the run of one process. A signal to one of them ends both.
    started = processes.start(processes.Way(devices=2, processes=2), [*TOY, "--parallel.fsdp", "2"], run)
    while processes.lines(run)[-1]["step"] < made + 20 and all(process.poll() is None for process in started):
        time.sleep(0.01)
    started[1].send_signal(signal.SIGTERM)
    last_lines = [process.communicate(timeout=60)[1].splitlines()[-1] for process in started]
    assert [process.returncode for process in started] == [143, 143], last_lines
    assert all(line.startswith("error: terminated by SIGTERM") for line in last_lines), last_lines
    newest = max(int(path.name) for path in (run / "checkpoints").iterdir() if path.name.isdecimal())
    assert made < newest == processes.lines(run)[-1]["step"] < STEPS

    finish_here(run)
    # Another order of sums changes the first losses by 1e-7, and further steps increase the difference. Other noise or
    # other data would change the losses themselves.
    found, wanted = (np.array([line["loss"] for line in processes.lines(path)]) for path in (run, whole))
    np.testing.assert_allclose(found, wanted, rtol=1e-4)
    state, reference = processes.final_state(run), processes.final_state(whole)
    assert max(np.abs(state[name] - reference[name]).max() for name in state if "params" in name) < 1e-3
    assert resume.place(run)["batches"] == resume.place(whole)["batches"] == {"next": STEPS}
