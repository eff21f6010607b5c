"""Compares a run that is killed again and again with one that is not: `python scripts/studies/resume.py --seed 0`.

Trains with `scripts/train.py`, first without interruption: a small U-Net on the embedded digits, or the student of
`distillation.py`, with a frozen teacher and an encoder of captions that is trained jointly. The second run is started
again after each of these ends: SIGKILL at random moments, SIGTERM, SIGKILL during a save, a truncated newest
checkpoint, and a full disk. Both runs must agree to the bit in every leaf of the state, the place in the data, the
metrics and the last picture. A third run goes from eight devices to four to one, which changes only the order of sums.
"""

import dataclasses
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
from chains import Chain, place, same
from processes import Way, final_state, lines, train_teacher

from jaxdiff.cli import command_line


class Ended(Chain):
    """A chain with further sorts of ends, on one device."""

    def terminated(self) -> None:
        """Ends the run by SIGTERM. Every finished step must have been saved."""
        processes = self.begin()
        self.wait_for(processes, self.further(30))
        time.sleep(self.random.uniform(0, 0.03))
        self.end(processes, signal.SIGTERM, "SIGTERM")
        if self.steps()[-1] < self.logged():
            raise RuntimeError(f"SIGTERM: saved {self.steps()[-1]} steps of {self.logged()}")

    def truncated(self) -> None:
        """Truncates a file of the newest checkpoint. The run must resume from the one before, with a warning."""
        newest = self.run / "checkpoints" / str(self.steps()[-1])
        files = [path for path in sorted(newest.rglob("*")) if path.is_file() and path.stat().st_size]
        chosen = self.random.choice(files)
        os.truncate(chosen, chosen.stat().st_size // 2)
        processes = self.begin()
        self.wait_for(processes, self.steps()[-2] + 2)
        time.sleep(1)
        said = self.end(processes, signal.SIGKILL, f"SIGKILL after truncating {chosen.relative_to(newest)}")
        if "is broken" not in said:
            raise RuntimeError(f"truncated {chosen}: no warning in {said[-2000:]}")

    def full(self) -> None:
        """Limits the size of files below that of a checkpoint. Saves must fail; training must go on."""
        before = self.steps()
        processes = self.begin(file_size=60_000)
        self.wait_for(processes, before[-1] + 45)
        said = self.end(processes, signal.SIGKILL, "SIGKILL with a full disk")
        if self.steps() != before or "training goes on" not in said:
            raise RuntimeError(f"full disk: checkpoints {before} became {self.steps()}; {said[-2000:]}")


def training(preset: str, steps: int, root: Path) -> list[str]:
    """Arguments of `train.py`, with different intervals of logs and of checkpoints. A teacher is trained here."""
    line = (
        f"--train.steps {steps} --train.batch-size 16 --train.log-every 1 --train.checkpoint-every 7 "
        f"--train.sample-every 0 --sample.steps 2 --train.ema-widths 0.1 --optimizer.schedule constant "
    )
    if preset == "distillation":
        return [*train_teacher(root / "teacher", 100), *line.split()]
    network = (
        "--model.network.channels 16 --model.network.multipliers 1 --model.network.attention-levels "
        "--model.network.mid-attention false --augmentations.0.kind Flip"
    )
    return ["digits", *line.split(), *network.split()]


@dataclasses.dataclass(frozen=True)
class Arguments:
    """The run, and the number of its ends of each sort."""

    seed: int = 0
    """The seed of the random moments."""
    kills: int = 20
    """The number of ends by SIGKILL."""
    terms: int = 5
    """The number of ends by SIGTERM."""
    others: bool = True
    """Include ends during a save, with a truncated checkpoint and with a full disk, and other numbers of devices."""
    preset: Literal["digits", "distillation"] = "digits"
    """The run that is ended."""


def main(arguments: Arguments) -> None:
    """Ends a run in many ways and compares it with an uninterrupted run."""
    root = Path(tempfile.mkdtemp())
    kills, terms, others, seed = arguments.kills, arguments.terms, arguments.others, arguments.seed
    steps = 40 * (kills + terms + 5)
    try:
        line = training(arguments.preset, steps, root)
        whole = Chain(line, root / "whole", seed)
        whole.finished()
        chain = Ended(line, root / "run", seed)
        ends: list[Callable[[], None]] = [chain.killed] * kills + [chain.terminated] * terms
        ends += [chain.killed_in_a_save, chain.truncated, chain.full] if others else []
        chain.random.shuffle(ends)
        if others:  # later ends need two checkpoints
            chain.killed_in_a_save()
        for end in ends:
            end()
            print(f"{end.__name__}: {chain.logged()} of {steps} steps", flush=True)
        chain.finished()
        same(chain.run, whole.run)
        print(f"the same to the bit after {chain.done}")
        if others:
            elsewhere(line, root, whole.run, seed)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def elsewhere(arguments: list[str], root: Path, reference: Path, seed: int) -> None:
    """Starts a run on eight devices, and resumes it on four and on one."""
    chain = Chain(arguments, root / "elsewhere", seed)
    for devices in (8, 4):
        process = chain.begin(Way(devices=devices))
        chain.wait_for(process, chain.further(30) + 20)
        chain.end(process, signal.SIGTERM, f"SIGTERM on {devices} devices")
    chain.finished(Way(devices=1))
    found, wanted = final_state(chain.run), final_state(reference)
    apart = max(np.abs(found[n] - wanted[n]).max() for n in wanted if "params" in n and found[n].size)
    if place(chain.run)["batches"] != place(reference)["batches"]:
        raise RuntimeError("the place in the data differs")
    losses = [np.array([line["loss"] for line in lines(run)]) for run in (chain.run, reference)]
    relative = np.max(np.abs(losses[0] - losses[1]) / losses[1])
    print(f"from 8 devices to 4 to 1: parameters within {apart:.1e}, losses within {relative:.1e} relatively")


if __name__ == "__main__":
    command_line.run(main)
