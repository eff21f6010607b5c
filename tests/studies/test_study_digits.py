"""The digits preset, from training to figures, in about four minutes on two cores.

Run `pytest -m study tests/studies/test_study_digits.py`.
"""

import json
import pathlib
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.study
def test_digits(tmp_path):
    """The command trains the preset in at most 5 minutes. An SVM, recall and copied images judge 1,000 samples."""
    run = tmp_path / "digits"
    start = time.monotonic()
    subprocess.run([sys.executable, "scripts/train.py", "digits", "--run-dir", str(run)], cwd=ROOT, check=True)
    seconds = time.monotonic() - start
    done = subprocess.run(
        [sys.executable, "scripts/evaluate.py", str(run), "--count", "1000"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    found = json.loads(done.stdout)
    print(f"trained in {seconds:.0f} s; {found}")
    assert seconds <= 300
    assert found["classifier"] >= 0.98
    assert found["label_accuracy"] >= 0.95
    assert found["recall"] >= 0.7
    assert found["memorised"] <= 0.02
