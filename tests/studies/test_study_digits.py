"""The main job, from nothing: `pytest -m study tests/studies/test_study_digits.py`, about four minutes on two cores."""

import json
import pathlib
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.study
def test_digits(tmp_path):
    """Trains the preset by its command in at most 5 minutes, and judges 1,000 samples by an SVM, recall and copies."""
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
