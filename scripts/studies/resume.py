"""Compares a run that is killed again and again with one that is not: `python scripts/studies/resume.py --seed 0`.

Trains with `scripts/train.py`, first without interruption: a small U-Net on the embedded digits, or the student of
`distillation.py`, with a frozen teacher and an encoder of captions that is trained jointly. The second run is started
again after each of these ends: SIGKILL at random moments, SIGTERM, SIGKILL during a save, a truncated newest
checkpoint, and a full disk. Both runs must agree to the bit in every leaf of the state, the place in the data, the
metrics and the last picture. A third run goes from eight devices to four to one, which changes only the order of sums.
"""

import dataclasses
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from processes import Way, final_state, finish, lines, start, train_teacher

from jaxdiff.cli import command_line
from jaxdiff.runs.checkpoints import Checkpoints

RATES = {"time", "images_per_second", "data_wait", "mfu"}


class Chain:
    """One run that is ended and started again."""

    def __init__(self, arguments: list[str], run: Path, seed: int) -> None:
        self.arguments, self.run, self.random = arguments, run, random.Random(seed)
        self.done: dict[str, int] = {}
        self.began = 0.0

    def steps(self) -> list[int]:
        """The steps of the checkpoints."""
        with Checkpoints(self.run / "checkpoints") as checkpoints:
            return checkpoints.steps()

    def begin(self, way: Way | None = None, file_size: int | None = None) -> subprocess.Popen[str]:
        """Starts or resumes the run. `file_size` limits the size of the files that it can write."""

        def limited() -> None:
            assert file_size is not None
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))

        self.began = time.time()
        # Calling a function between fork and exec is unsafe beside JAX's threads, so it is done only where needed.
        before = None if file_size is None else limited
        return start(way or Way(devices=1), self.arguments, self.run, before)[0]

    def end(self, process: subprocess.Popen[str], number: signal.Signals, name: str) -> str:
        """Sends the signal, waits for the end, counts it under `name`, and returns the standard error."""
        if process.poll() is not None:
            raise RuntimeError(f"{name}: the run was over before it was ended: {process.communicate()[1][-2000:]}")
        process.send_signal(number)
        said = process.communicate(timeout=120)[1]
        if number == signal.SIGTERM and process.returncode != 143:
            raise RuntimeError(f"SIGTERM: status {process.returncode}: {said[-2000:]}")
        self.done[name] = self.done.get(name, 0) + 1
        return said

    def wait_for(self, process: subprocess.Popen[str], step: int) -> None:
        """Waits until this process has logged the step, or has ended."""
        while process.poll() is None and self.logged(since=self.began) < step:
            time.sleep(0.002)

    def logged(self, since: float = 0.0) -> int:
        """The newest step in metrics.jsonl that was logged at `since` or later; 0 if there is none."""
        found = [line for line in lines(self.run)[-1:] if line["time"] >= since]
        return int(found[-1]["step"]) if found else 0

    def further(self, most: int) -> int:
        """A random step, at most `most` steps after the newest checkpoint."""
        return max(self.steps(), default=0) + self.random.randint(1, most)

    def killed(self) -> None:
        """Ends the run by SIGKILL, at a random moment."""
        process = self.begin()
        self.wait_for(process, self.further(30))
        time.sleep(self.random.uniform(0, 0.03))
        self.end(process, signal.SIGKILL, "SIGKILL")

    def terminated(self) -> None:
        """Ends the run by SIGTERM. Every finished step must have been saved."""
        process = self.begin()
        self.wait_for(process, self.further(30))
        time.sleep(self.random.uniform(0, 0.03))
        self.end(process, signal.SIGTERM, "SIGTERM")
        if self.steps()[-1] < self.logged():
            raise RuntimeError(f"SIGTERM: saved {self.steps()[-1]} steps of {self.logged()}")

    def killed_in_a_save(self) -> None:
        """Ends the run by SIGKILL while a checkpoint is being written."""
        process, before = self.begin(), self.steps()
        while process.poll() is None and not (self.steps() != before and self.under_way()):
            time.sleep(0.0005)
        time.sleep(self.random.uniform(0, 0.01))
        self.end(process, signal.SIGKILL, "SIGKILL in a save")

    def under_way(self) -> list[Path]:
        """The directories of unfinished saves."""
        return [path for path in (self.run / "checkpoints").glob("tmp.*") if any(path.rglob("*"))]

    def truncated(self) -> None:
        """Truncates a file of the newest checkpoint. The run must resume from the one before, with a warning."""
        newest = self.run / "checkpoints" / str(self.steps()[-1])
        files = [path for path in sorted(newest.rglob("*")) if path.is_file() and path.stat().st_size]
        chosen = self.random.choice(files)
        os.truncate(chosen, chosen.stat().st_size // 2)
        process = self.begin()
        self.wait_for(process, self.steps()[-2] + 2)
        time.sleep(1)
        said = self.end(process, signal.SIGKILL, f"SIGKILL after truncating {chosen.relative_to(newest)}")
        if "is broken" not in said:
            raise RuntimeError(f"truncated {chosen}: no warning in {said[-2000:]}")

    def full(self) -> None:
        """Limits the size of files below that of a checkpoint. Saves must fail; training must go on."""
        before = self.steps()
        process = self.begin(file_size=60_000)
        self.wait_for(process, before[-1] + 45)
        said = self.end(process, signal.SIGKILL, "SIGKILL with a full disk")
        if self.steps() != before or "training goes on" not in said:
            raise RuntimeError(f"full disk: checkpoints {before} became {self.steps()}; {said[-2000:]}")

    def finished(self, way: Way | None = None) -> None:
        """Runs to the last step."""
        finish([self.begin(way)])


def place(run: Path) -> dict[str, object]:
    """The iterator state of the last checkpoint: the place in the data, and the metrics not yet logged."""
    with Checkpoints(run / "checkpoints") as checkpoints:
        newest = checkpoints.steps()[-1]
    return json.loads((run / "checkpoints" / str(newest) / "meta.json").read_text())["iterator"]


def metrics(run: Path) -> list[dict[str, float]]:
    """The lines of metrics without the rates, which differ from run to run."""
    return [{name: value for name, value in line.items() if name not in RATES} for line in lines(run)]


def same(run: Path, reference: Path) -> None:
    """Raises a RuntimeError unless both runs agree to the bit."""
    state, wanted = final_state(run), final_state(reference)
    differing = [n for n in wanted if n not in state or state[n].tobytes() != wanted[n].tobytes()]
    if differing or state.keys() != wanted.keys():
        raise RuntimeError(f"{len(differing)} of {len(wanted)} leaves differ: {', '.join(differing[:5])}")
    if place(run) != place(reference):
        raise RuntimeError(f"place in the data: {place(run)}, not {place(reference)}")
    if metrics(run) != metrics(reference):
        raise RuntimeError("the metrics differ")
    # The pictures carry the names of their runs, so that their files differ.
    found, expected = (np.asarray(Image.open(at / "samples" / "final.png")) for at in (run, reference))
    if not np.array_equal(found, expected):
        raise RuntimeError("the last picture differs")


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
        "--model.network.no-mid-attention --augmentations.0.kind Flip"
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
        chain = Chain(line, root / "run", seed)
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
