"""Compares one run on many numbers of devices and processes: `python scripts/studies/equality.py`.

Trains for a few steps with `scripts/train.py`: the `digits` preset, or `distillation.py`, with a frozen teacher and an
encoder of captions that is trained jointly:

- on one device;
- on eight devices, under `jit` with the axes `data`, `fsdp` and both, and under `pmap`;
- with the batch in parts, with several steps in a call, and with the data on the devices;
- in two and four processes of two devices each, over Gloo.

Prints two differences from the run on one device: the largest relative difference of the losses over all steps, and the
largest difference of the final parameters and averages.
"""

import dataclasses
import shutil
import tempfile
from pathlib import Path
from typing import Literal

import numpy as np
from processes import Way, final_state, finish, lines, start, train_teacher

from jaxdiff.cli import command_line

WAYS = {
    "single": Way(devices=1),
    "jit, data 8": Way(),
    "jit, fsdp 8": Way("--parallel.fsdp 8"),
    "jit, data 2 x fsdp 4": Way("--parallel.fsdp 4"),
    "pmap": Way("--parallel.strategy pmap"),
    "single, batch in 4 parts": Way("--parallel.accumulate 4", 1),
    "fsdp 4, batch in 2 parts, 5 steps a call": Way(
        "--parallel.fsdp 4 --parallel.accumulate 2 --parallel.steps-per-call 5"
    ),
    "data 8, data set on the devices": Way("--loading.placement device"),
    "pmap, data set on the devices, 5 steps a call": Way(
        "--parallel.strategy pmap --loading.placement device --parallel.steps-per-call 5"
    ),
    "2 processes x 2, data": Way("", 2, 2),
    "2 processes x 2, fsdp": Way("--parallel.fsdp 4", 2, 2),
    "2 processes x 2, pmap": Way("--parallel.strategy pmap", 2, 2),
    "4 processes x 2, data 2 x fsdp 4": Way("--parallel.fsdp 4", 2, 4),
}


def compare(run: Path, reference: Path) -> tuple[float, float]:
    """The largest relative difference of the losses, and the largest difference of parameters and averages."""
    found, wanted = (np.array([line["loss"] for line in lines(which)]) for which in (run, reference))
    state, other = final_state(run), final_state(reference)
    assert len(found) == len(wanted)
    assert state.keys() == other.keys()
    trained = ("['params']", "['ema']", "['extra']")
    apart = [np.abs(state[n] - other[n]).max() for n in state if n.startswith(trained)]
    return float(np.max(np.abs(found - wanted) / np.abs(wanted))), float(max(apart))


@dataclasses.dataclass(frozen=True)
class Arguments:
    """The length and the ways of the comparison."""

    steps: int = 50
    """The number of training steps, a multiple of 5."""
    preset: Literal["digits", "distillation", "both"] = "both"
    """The run that is compared."""
    only: str = ""
    """Selects the ways whose names contain this text. One device is always included."""
    keep: Path | None = None
    """The directory in which the runs are kept; none deletes them."""


def main(arguments: Arguments) -> None:
    """Trains in every way and prints a table."""
    root = Path(tempfile.mkdtemp()) if arguments.keep is None else arguments.keep
    try:
        for preset in ("digits", "distillation") if arguments.preset == "both" else (arguments.preset,):
            compare_all(arguments, preset, root / preset)
    finally:
        if arguments.keep is None:
            shutil.rmtree(root, ignore_errors=True)


def compare_all(arguments: Arguments, preset: str, root: Path) -> None:
    """Trains one preset in every way and prints its table."""
    steps = str(arguments.steps)
    line = ["digits"] if preset == "digits" else train_teacher(root / "teacher", arguments.steps)
    line += ["--train.steps", steps, "--train.log-every", "5", "--train.sample-every", "0"]
    line += ["--sample.steps", "2", "--train.checkpoint-every", steps]
    reference = root / "single"
    print(f"{preset:44}{'losses':>10}{'parameters':>12}")
    for name, way in WAYS.items():
        if name != "single" and arguments.only not in name:
            continue
        run = root / name.replace(" ", "-").replace(",", "")
        finish(start(way, line, run))
        loss, parameter = compare(run, reference)
        print(f"{name:44}{loss:10.1e}{parameter:12.1e}", flush=True)


if __name__ == "__main__":
    command_line.run(main)
