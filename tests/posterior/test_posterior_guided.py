"""Classifier-free guidance within moment matching within DPM-Solver++, in a process with eight devices."""

import subprocess
import sys

import pytest
from devices import ROOT, forced


@pytest.mark.long
def test_guidance_in_a_posterior_in_a_solver_under_every_transformation():
    """`jit`, `vmap`, `shard_map`, shardings and `jax.export` give the samples of one device."""
    program = [sys.executable, "tests/posterior/guided.py"]
    done = subprocess.run(program, cwd=ROOT, env=forced(8), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = dict(line.rsplit(": ", 1) for line in done.stdout.splitlines())
    assert len(found) == 4
    for name, difference in found.items():
        assert float(difference) < 1e-5, (name, difference)
