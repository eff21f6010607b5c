"""Sounds, molecules, captioned emoji and videos: each is trained for about a minute, and comes out as files that open.

Run `JAXDIFF_TEST_DATA=PATH pytest -m study tests/studies/test_study_kinds.py`, with a TFDS directory that holds the sets
`spoken_digits`, `qm7_molecules`, `emoji` and `fluent_animated`.
"""

import json
import os
import pathlib
import subprocess
import sys
import wave

import numpy as np
import pytest
from PIL import Image

ROOT = pathlib.Path(__file__).parents[2]
DATA = os.environ.get("JAXDIFF_TEST_DATA", str(ROOT.parent / "shared" / "tensorflow_datasets"))
# For each preset, the files of the final samples, and the largest part of its first value that the loss may have.
KINDS = {
    "spoken_digits": (["final.png", "final_00.wav"], 0.95),
    "molecules": (["final.png", "final.xyz", "final_00.ply"], 0.8),
    "emoji": (["final.png"], 0.8),
    "animated_emoji": (["final.png", "final_frames.png"], 0.8),
}


@pytest.mark.study
@pytest.mark.parametrize("name", KINDS)
def test_a_kind_of_data_comes_out_as_files(name, tmp_path):
    files, part = KINDS[name]
    command = [sys.executable, "scripts/train.py", f"tests/additions/{name}.py", "--data.data_dir", DATA]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
    subprocess.run([*command, "--run_dir", str(tmp_path)], cwd=ROOT, check=True, env=environment)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    print(f"{name}: loss {lines[0]['loss']:.3f} -> {lines[-1]['loss']:.3f}")
    assert lines[-1]["loss"] < part * lines[0]["loss"]
    for file in files:
        path = tmp_path / "samples" / file
        if path.suffix == ".png":
            with Image.open(path) as picture:
                assert np.asarray(picture.convert("RGB")).std() > 1
                assert getattr(picture, "n_frames", 1) == (8 if file == "final.png" and name == "animated_emoji" else 1)
        elif path.suffix == ".wav":
            with wave.open(str(path)) as sound:
                assert (sound.getframerate(), sound.getnframes()) == (8000, 4096)
        else:
            assert path.read_text().strip()
