"""Measures whether memory, descriptors and threads grow: `python scripts/studies/flatness.py`.

One process trains a run of `toy2d` for 3,000 steps, with saves, snapshots, pictures and validation. Then it loads the
run and draws samples in two ways, 100 times. After every 20 steps and after every draw the script notes the resident
memory, the open file descriptors, the threads, and the programs that XLA has compiled so far.

Growth is the Theil-Sen slope: the median of the slopes between all pairs of notes. The first third of the notes is left
out, since caches fill and threads start there. A quantity is flat if the slope, times the number of steps or draws, is
at most one descriptor, one thread, one program, or 2 % of the memory.
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
ALLOWED = {"memory": 0.02, "descriptors": 1.0, "threads": 1.0, "programs": 1.0}


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
    """The length of the study."""

    steps: int = 3000
    """The number of training steps."""
    draws: int = 100
    """The number of times that the run is loaded and samples are drawn."""
    only: str = ""
    """`drawing` leaves the training short."""


def training(run: Path, steps: int) -> Notes:
    """Trains a run."""
    notes = Notes()
    jd.fit(
        MLP(width=64, num_blocks=2),
        Toy("checkerboard", n=4096),
        steps=steps,
        directory=run,
        batch_size=128,
        log_every=20,
        checkpoint_every=50,
        snapshot_every=500,
        ema_widths=(0.1, 0.05),
        sample_every=500,
        held_out=64,
        validate_every=100,
        callbacks=[lambda step, metrics: notes.take()],
        progress=False,
    )
    return notes


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


def verdict(notes: Notes, length: int) -> tuple[str, bool]:
    """The lines of a table, and whether everything is flat."""
    values = np.array(notes.values, float)
    values = values[len(values) // 3 :]
    at = np.linspace(length / 3, length, len(values))
    lines, good = [], True
    for column, (name, most) in enumerate(ALLOWED.items()):
        own = values[:, column]
        slope, _, _, high = theilslopes(own, at)
        limit = most * own[0] if name == "memory" else most
        flat = slope * length <= limit
        good &= bool(flat)
        unit = 1e6 if name == "memory" else 1
        name = "memory, MB" if name == "memory" else name
        numbers = (
            f"{own[0] / unit:10.1f}{own[-1] / unit:10.1f}{slope * length / unit:10.2f}{high * length / unit:10.2f}"
        )
        lines.append(f"  {name:14}{numbers}{limit / unit:10.2f}  {'flat' if flat else 'GROWS'}")
    return "\n".join(lines), good


def main(arguments: Arguments) -> None:
    """Trains, loads and draws, and prints a table."""
    root = Path(tempfile.mkdtemp())
    good = True
    parts: dict[str, tuple[Callable[[Path, int], Notes], int]] = {
        "steps of training": (training, arguments.steps),
        "times load and draw": (drawing, arguments.draws),
    }
    try:
        print(f"  {'':14}{'after 1/3':>10}{'at the end':>11}{'growth':>9}{'at most':>10}{'allowed':>10}")
        for name, (part, length) in parts.items():
            began = time.monotonic()
            text, flat = verdict(part(root / "run", length), length)
            good &= flat
            print(f"{length} {name}, {time.monotonic() - began:.0f} s", text, sep="\n", flush=True)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    if not good:
        raise SystemExit(1)


if __name__ == "__main__":
    command_line.run(main)
