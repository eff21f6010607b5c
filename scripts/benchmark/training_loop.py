"""The cost of the training loop around the bare step: `python scripts/benchmark/training_loop.py [--data-dir DIR]`.

Two networks are measured: the preset `digits`, and, with a TFDS directory that holds `cifar10`, DDPM's network for
CIFAR-10 with 35.7 million parameters. The bare step is the compiled step on one batch, which lies on the device. The
loop is that of `train`, with prefetching, metrics, signals and logs, but without checkpoints and pictures. The loop
reads the data from memory or from the device, and CIFAR-10 also from disk, with threads or with a worker process.

Each round measures the bare step and all loops in turn. Ratios are medians over the rounds of the ratio within a round,
so that a change of the machine's speed cancels. On a machine that has other work, read the ratio in processor time: it
counts all threads, also those that load data, but no worker process.
"""

import dataclasses
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import machine
import numpy as np

from jaxdiff.checks import integer
from jaxdiff.cli import command_line
from jaxdiff.data import Digits
from jaxdiff.presets import open_preset
from jaxdiff.runs import recipe
from jaxdiff.runs.archive import open_archive
from jaxdiff.runs.config import Config, LoadingConfig
from jaxdiff.runs.directory import create_run, write_config
from jaxdiff.runs.opened import Opened, open_entries
from jaxdiff.runs.program import Program, make_batches, make_program
from jaxdiff.runs.recipe import Training
from jaxdiff.runs.trainer import Trainer
from jaxdiff.runs.window import Window

DIGITS = open_preset("digits").config
CIFAR10 = open_preset(f"{Path(__file__).resolve().parents[2]}/configs/cifar10.py").config

BARE = "the bare step"
PLACES: dict[str, dict[str, Any]] = {
    "from memory": {"placement": "memory"},
    "from disk, threads": {"placement": "disk"},
    "from disk, a worker process": {"placement": "disk", "workers": 1},
    "on the device": {"placement": "device"},
}


@dataclasses.dataclass(frozen=True)
class Arguments:
    """The data of the large network, and the length of the measurement."""

    data_dir: str | None = None
    """A TFDS directory that holds `cifar10`; none to measure the small network only."""
    rounds: int = 5
    """The number of measurements."""
    steps: int = 100
    """The number of steps of the small network in one measurement."""
    large_steps: int = 4
    """The number of steps of the large network in one measurement."""
    batch: int = 8
    """The batch size of the large network."""

    def __post_init__(self) -> None:
        for name in ("rounds", "steps", "large_steps", "batch"):
            integer(name, getattr(self, name))


def main(arguments: Arguments) -> None:
    """Measures and prints a table in Markdown for each network."""
    print(machine.describe())
    with tempfile.TemporaryDirectory() as directory:
        compare(DIGITS, arguments.rounds, arguments.steps, Path(directory))
        if arguments.data_dir is not None:
            there: Any = CIFAR10.data
            config = dataclasses.replace(
                CIFAR10,
                data=dataclasses.replace(there, data_dir=arguments.data_dir),
                train=dataclasses.replace(CIFAR10.train, batch_size=arguments.batch),
            )
            compare(config, arguments.rounds, arguments.large_steps, Path(directory))


def compare(config: Config, rounds: int, steps: int, directory: Path) -> None:
    """Measures one network with the data in all places, and prints its table."""
    # The steps before the first line of metrics, in which the step is compiled and workers start, are not counted.
    log_every = min(steps, 50)
    train = dataclasses.replace(config.train, steps=log_every + steps, log_every=log_every, sample_every=0)
    config = dataclasses.replace(config, train=dataclasses.replace(train, checkpoint_every=10**9))
    programs: dict[bool, Program] = {}
    calls: dict[str, Callable[[], tuple[float, float, float]]] = {}
    for place, settings in PLACES.items():
        if isinstance(config.data, Digits) and "disk" in place:
            continue  # scikit-learn's digits always come from memory
        there = dataclasses.replace(config, loading=LoadingConfig(**settings))
        examples, nothing = there.data.open(), recipe.load_frozen(there, str)
        training = recipe.make_training(there, examples.fields, nothing)
        on_device = there.loading.placement == "device"
        if on_device not in programs:
            programs[on_device] = make_program(training, nothing)
        loop = Loop(training, programs[on_device], open_entries(there, examples, training.entries), directory)
        if not calls:
            calls[BARE] = Bare(loop, steps)
        calls[place] = loop
    for call in calls.values():
        call()  # compiles
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            found[name].append(call())
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    set_name = getattr(config.data, "name", type(config.data).__name__)
    print(f"\n{set_name}, batch {config.train.batch_size}, {rounds} rounds of {steps} steps{load}")
    report({name: np.array(rows) for name, rows in found.items()}, steps)


class Bare:
    """Measures steps on one batch: seconds, processor seconds, and 0 for the wait for data."""

    def __init__(self, loop: "Loop", steps: int) -> None:
        self.call, self.frozen, self.steps = loop.program.call, loop.program.frozen, steps
        batches = make_batches(loop.training.config, loop.opened.training, loop.program.strategy)
        self.batch = jax.block_until_ready(next(batches))
        batches.close()
        self.state = loop.program.strategy.from_canonical(loop.program.initialise(None))

    def __call__(self) -> tuple[float, float, float]:
        began = time.perf_counter(), time.process_time()
        for _ in range(self.steps):
            self.state, _ = self.call(self.state, self.batch, self.frozen)
        jax.block_until_ready(self.state)
        return time.perf_counter() - began[0], time.process_time() - began[1], 0.0


@dataclasses.dataclass
class Loop:
    """Measures the training loop: seconds, processor seconds, and the share of time spent waiting for data."""

    training: Training
    program: Program
    opened: Opened
    directory: Path

    def __call__(self) -> tuple[float, float, float]:
        clock = Clock()
        logger: Any = clock
        with tempfile.TemporaryDirectory(dir=self.directory) as directory:
            run = create_run(Path(directory) / "run")
            write_config(run, {})  # the loop ends when this file is gone
            config = self.training.config
            batches = make_batches(config, self.opened.training, self.program.strategy)
            with open_archive(run, config, {}) as archive:
                parts = batches, self.opened, None, run, archive, logger
                # Nothing is shown, so that nothing needs the loaded model.
                trainer = Trainer(self.training, self.program, *parts, loaded=lambda average, extra: None)
                trainer.run_steps(self.program.strategy.from_canonical(self.program.initialise(None)), 0, Window())
            batches.close()
        return clock.measured()


class Clock:
    """A logger that notes the time of each line of metrics, and the line's share of waiting."""

    def __init__(self) -> None:
        self.lines: list[tuple[float, float, float]] = []

    def log(self, step: int, values: Any) -> None:
        """Notes one line."""
        self.lines.append((time.perf_counter(), time.process_time(), values.get("data_wait", 0.0)))

    def measured(self) -> tuple[float, float, float]:
        """Seconds, processor seconds, and the share of waiting, from the first line to the last."""
        times = np.array(self.lines)
        spans = np.diff(times[:, 0])
        waiting = float(np.sum(times[1:, 2] * spans) / np.sum(spans))
        return float(times[-1, 0] - times[0, 0]), float(times[-1, 1] - times[0, 1]), waiting


def report(found: dict[str, np.ndarray], steps: int) -> None:
    """Prints one row for each place: the median and the best round, and the ratios to the bare step."""
    print("\n| | ms a step | in the best round | processor ms | over the bare step | in processor time | waiting |")
    print("|---|---|---|---|---|---|---|")
    for name, rows in found.items():
        middle, best = np.median(rows, axis=0), rows.min(axis=0)
        over = np.median(rows[:, :2] / found[BARE][:, :2], axis=0)
        row = [name, f"{middle[0] / steps * 1e3:.1f}", f"{best[0] / steps * 1e3:.1f}"]
        row += [f"{middle[1] / steps * 1e3:.1f}", f"{over[0]:.3f}", f"{over[1]:.3f}"]
        row += ["" if name == BARE else f"{middle[2]:.2%}"]
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    command_line.run(main)
