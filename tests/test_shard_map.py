"""Every sampler and likelihood within `jax.shard_map`, in a process with two devices."""

import subprocess
import sys

import pytest
from devices import ROOT, forced


@pytest.mark.long
def test_the_parts_of_a_batch_are_the_batch():
    done = subprocess.run([sys.executable, "tests/sharded.py"], cwd=ROOT, env=forced(2), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    found = dict(line.rsplit(": ", 1) for line in done.stdout.splitlines())
    assert len(found) == 11
    for name, difference in found.items():
        assert float(difference) < 1e-5, name
