"""`scripts/train.py` as its users run it, ended in the ways that jobs are ended and started again.

The short form of `scripts/studies/resume.py`, on points in the plane.
"""

import importlib.util
import random
import shlex
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest

STUDIES = Path(__file__).parents[2] / "scripts" / "studies"


def from_studies(name):
    """A module of that folder, which is none of a package."""
    spec = importlib.util.spec_from_file_location(name, STUDIES / f"{name}.py")
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


processes = from_studies("processes")
resume = from_studies("resume")

TOY = shlex.split(
    "toy2d --network.width 16 --network.num-blocks 1 --network.dropout 0.1 --train.batch-size 64 --train.log-every 1 "
    "--train.checkpoint-every 20 --train.sample-every 0 --sample.steps 2 --optimizer.schedule constant"
)


@pytest.fixture(scope="module", autouse=True)
def compiled_once(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path_factory.mktemp("compiled")))
        patch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing ended."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    resume.Chain([*TOY, "--train.steps", "600"], run, 0).finished()
    return run


def test_killed_terminated_and_left_without_its_newest_checkpoint(whole, tmp_path):
    seed = random.randrange(1000)
    print("seed", seed)
    chain = resume.Chain([*TOY, "--train.steps", "600"], tmp_path / "run", seed)
    for end in (chain.killed_in_a_save, chain.terminated, chain.truncated):
        end()
        assert chain.logged() < 600
    chain.finished()
    resume.same(chain.run, whole)
    assert sum(chain.done.values()) == 3


def test_a_signal_to_one_of_two_processes_ends_both_and_the_job_goes_on(whole, tmp_path):
    """Two processes of two devices, over Gloo: the same run as one process makes, but for the order of sums."""
    run, arguments = tmp_path / "run", [*TOY, "--train.steps", "600", "--parallel.fsdp", "2"]
    started = processes.start(processes.Way(devices=2, processes=2), arguments, run)
    while len(processes.lines(run)) < 30 and all(process.poll() is None for process in started):
        time.sleep(0.01)
    started[1].send_signal(signal.SIGTERM)
    said = [process.communicate(timeout=60)[1].splitlines()[-1] for process in started]
    assert [process.returncode for process in started] == [143, 143], said
    assert all(line.startswith("error: terminated by SIGTERM") for line in said), said
    newest = max(int(path.name) for path in (run / "checkpoints").iterdir() if path.name.isdecimal())
    assert newest == processes.lines(run)[-1]["step"] < 600

    # It goes on with another number of processes and devices.
    processes.finish(processes.start(processes.Way(devices=1), [*TOY, "--train.steps", "600"], run))
    # Another order of sums is 1e-7 apart at first, and 600 steps make more of it; other noise or data would be far off.
    found, wanted = (np.array([line["loss"] for line in processes.lines(path)]) for path in (run, whole))
    np.testing.assert_allclose(found, wanted, rtol=1e-4)
    state, reference = processes.final_state(run), processes.final_state(whole)
    assert max(np.abs(state[name] - reference[name]).max() for name in state if "params" in name) < 1e-3
    assert resume.place(run)["batches"] == resume.place(whole)["batches"] == {"next": 600}
