"""The MNIST preset, from training to figures, in about 15 minutes on two cores.

Run `JAXDIFF_TEST_DATA=PATH pytest -m study tests/studies/test_study_mnist.py`, with a TFDS directory that holds MNIST.
"""

import json
import os
import pathlib
import resource
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).parents[2]
DATA = os.environ.get("JAXDIFF_TEST_DATA", str(ROOT.parent / "shared" / "tensorflow_datasets"))


@pytest.mark.study
def test_mnist(tmp_path):
    """The command trains the preset in at most 20 minutes. A classifier of real MNIST judges 1,000 samples."""
    run, start = tmp_path / "mnist", time.monotonic()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "scripts/train.py", "mnist", "--data.data-dir", DATA, "--run-dir", str(run)]
    subprocess.run(command, cwd=ROOT, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    minutes = (time.monotonic() - start) / 60
    processor = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / 60
    done = subprocess.run(
        [sys.executable, "scripts/evaluate.py", str(run)], cwd=ROOT, check=True, capture_output=True, text=True
    )
    found = json.loads(done.stdout)
    print(f"trained in {minutes:.1f} minutes, {processor:.1f} of processor time; {found}")
    assert minutes <= 20
    assert found["classifier"] >= 0.98
    assert found["label_accuracy"] >= 0.95
