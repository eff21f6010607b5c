"""Bad inputs of every sort end in one line, or do no harm."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOSTILE = ROOT / "scripts" / "studies" / "hostile.py"


@pytest.mark.long
def test_a_few_bad_inputs_do_no_harm(monkeypatch):
    """The short form of `scripts/studies/hostile.py`, which tries a thousand."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    words = [sys.executable, str(HOSTILE), "--inputs", "24", "--seed", "1", "--timeout", "30"]
    process = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    assert process.returncode == 0, process.stdout + process.stderr
