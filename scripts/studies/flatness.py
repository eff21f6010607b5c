"""Measures whether memory, descriptors and threads grow: `python scripts/studies/flatness.py`.

One process trains runs of `toy2d`: 9,000 steps with nine saves, and then 100 saves with five steps between them. Then
it loads the run and draws samples in three ways, 100 times. After every 20 steps, every save and every draw the script
notes the resident memory, the open file descriptors, the threads, and the programs that XLA has compiled so far.

Growth is the Theil-Sen slope, the median of the slopes between all pairs of notes, times the length. The first third of
the notes is left out, since caches fill and threads start there: memory settles after about 3,000 steps. A quantity
grows if the lower end of the slope's 95 % interval is above what is allowed: one descriptor, thread or program over the
whole length, 2 kB a step, 50 kB a draw, and 0.5 MB a save. TensorStore 0.1.86 keeps the dictionaries that its
specifications become as JSON, and Orbax asks for some with each array that is saved.
"""

import dataclasses
import gc
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from scipy.stats import theilslopes

import jaxdiff as jd
from jaxdiff.cli import command_line
from jaxdiff.data import Toy
from jaxdiff.networks import MLP

COMPILED = "/jax/core/compile/backend_compile_duration"
QUANTITIES = ("memory, MB", "descriptors", "threads", "programs")


class Notes:
    """What this process holds, noted again and again."""

    def __init__(self) -> None:
        self.programs = 0
        self.values: list[tuple[float, ...]] = []
        jax.monitoring.register_event_duration_secs_listener(self._count)

    def _count(self, event: str, duration_secs: float, **_: str | int) -> None:
        self.programs += event == COMPILED

    def take(self) -> None:
        """Notes the memory in bytes, the descriptors, the threads and the programs."""
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        descriptors, threads = (len(os.listdir(f"/proc/self/{of}")) for of in ("fd", "task"))
        self.values.append((pages * resource.getpagesize(), descriptors, threads, self.programs))


@dataclasses.dataclass(frozen=True)
class Arguments:
    """The lengths of the parts."""

    steps: int = 9000
    """The number of training steps."""
    saves: int = 100
    """The number of checkpoints."""
    draws: int = 100
    """The number of times that the run is loaded and samples are drawn."""


def training(run: Path, steps: int, every: int = 1000, log_every: int = 20) -> Notes:
    """Trains a run, with a checkpoint, a snapshot and pictures `every` so many steps."""
    notes = Notes()
    jd.fit(
        MLP(width=64, num_blocks=2),
        Toy("checkerboard", n=4096),
        steps=steps,
        directory=run,
        batch_size=128,
        log_every=log_every,
        checkpoint_every=every,
        snapshot_every=500,
        ema_widths=(0.1, 0.05),
        sample_every=500,
        held_out=64,
        validate_every=100,
        callbacks=[lambda step, metrics: notes.take()],
        progress=False,
    )
    return notes


def saving(run: Path, saves: int) -> Notes:
    """Trains a run that saves after every 5 steps."""
    return training(run.with_name("saving"), 5 * saves, every=5, log_every=5)


def drawing(run: Path, draws: int) -> Notes:
    """Loads a run and draws from it, by the model's own sampler and by `jd.generate` and `jd.sample`."""
    notes = Notes()
    for i in range(draws):
        key = jax.random.key(i)
        model = jd.load(run)
        model.sample(key, 16)
        jd.generate(key, model.denoiser(), (16, *model.shape), steps=10).block_until_ready()
        noise = jd.prior_sample(key, model.process, (16, *model.shape))
        tableau = jd.solvers.heun(model.process, jd.grids.uniform_time(model.process, 10))
        jd.sample(key, model.denoiser(), noise, tableau).block_until_ready()
        notes.take()
    return notes


def verdict(notes: Notes, length: int, memory: float) -> tuple[list[str], bool]:
    """The lines of a table, and whether everything is flat.

    Args:
      notes: the notes of a part.
      length: the number of its steps, saves or draws.
      memory: the growth in bytes that is allowed for each of them.
    """
    values = np.array(notes.values, float)
    values = values[len(values) // 3 :]
    at = np.linspace(length / 3, length, len(values))
    lines, good = [], True
    for name, own in zip(QUANTITIES, values.T, strict=True):
        unit, limit = (1e6, memory * length) if name == QUANTITIES[0] else (1, 1.0)
        slope, _, low, _ = theilslopes(own, at)
        flat = bool(low * length <= limit)
        good &= flat
        numbers = "".join(f"{number / unit:12.1f}" for number in (own[0], own[-1], slope * length, limit))
        lines.append(f"  {name:14}{numbers}  {'flat' if flat else 'GROWS'}")
    return lines, good


def main(arguments: Arguments) -> None:
    """Trains, saves, loads and draws, and prints a table."""
    root = Path(tempfile.mkdtemp())
    parts: list[tuple[str, Callable[[Path, int], Notes], int, float]] = [
        ("steps", training, arguments.steps, 2e3),
        ("saves", saving, arguments.saves, 5e5),
        ("times load and draw", drawing, arguments.draws, 5e4),
    ]
    good = True
    try:
        print(f"{'':16}{'after 1/3':>12}{'at the end':>12}{'growth':>12}{'allowed':>12}")
        for name, part, length, memory in parts:
            began = time.monotonic()
            lines, flat = verdict(part(root / "run", length), length, memory)
            good &= flat
            print(f"{length} {name}, {time.monotonic() - began:.0f} s", *lines, sep="\n", flush=True)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    if not good:
        raise SystemExit(1)


if __name__ == "__main__":
    command_line.run(main)
