"""Digits by four networks for equally many minutes: `python scripts/studies/networks.py --minutes 3`.

The preset `digits` is trained with a U-Net, EDM2, DiT and JiT of about the same number of parameters. Each network has
the parametrization and the rate of its paper, scaled to this size. `jaxdiff evaluate` judges 1,000 samples of each run.
"""

import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
from equal_minutes import last, steps_within

from jaxdiff import parametrizations, processes
from jaxdiff.checks import one_of, positive
from jaxdiff.cli import command_line
from jaxdiff.components import choose
from jaxdiff.distributed.cpu_devices import divide_cpu
from jaxdiff.networks import EDM2, DiT, JiT
from jaxdiff.objectives import Denoising, Objective, times, weightings
from jaxdiff.presets import open_preset
from jaxdiff.runs.config import Config
from jaxdiff.runs.load import load_at
from jaxdiff.runs.loop import train

EVALUATE = Path(__file__).resolve().parents[1] / "evaluate.py"
DIGITS = open_preset("digits").config


def changed(network: Any, rate: float, objective: Objective | None = None, **settings: Any) -> Config:
    """The preset with another network, and the settings that fit it."""
    model: Any = DIGITS.model
    return dataclasses.replace(
        DIGITS,
        model=dataclasses.replace(model, network=network, **settings),
        objective=objective or DIGITS.objective,
        optimizer=dataclasses.replace(DIGITS.optimizer, learning_rate=rate),
    )


CONFIGS = {
    "UNet": DIGITS,
    "EDM2": changed(
        EDM2(channels=24, multipliers=(1, 2), num_blocks=1, attention_levels=(1,), head_channels=24, dropout=0.1),
        1e-2,
        Denoising(times=choose(times.log_normal)),
        process=choose(processes.edm),
        parametrization=choose(parametrizations.edm),
    ),
    "DiT": changed(DiT(width=72, depth=4, heads=4, patch=(1,), dropout=0.1), 1e-3),
    "JiT": changed(
        JiT(width=72, depth=4, heads=4, patch=(2,), bottleneck=4, context_tokens=4, context_start=1, dropout=0.1),
        1e-3,
        Denoising(weighting=choose(weightings.uniform, parametrization=choose(parametrizations.velocity))),
        process=choose(processes.flow),
        parametrization=choose(parametrizations.x0, time_input="raw"),
    ),
}


@dataclasses.dataclass(frozen=True)
class Arguments:
    """The networks, and the time of each."""

    minutes: float = 3.0
    """The minutes of training, without compilation."""
    only: tuple[str, ...] = tuple(CONFIGS)
    """The networks."""
    keep: Path | None = None
    """The directory in which the runs are kept; none deletes them."""

    def __post_init__(self) -> None:
        positive("minutes", self.minutes)
        for name in self.only:
            one_of("only", name, CONFIGS)


def main(arguments: Arguments) -> None:
    """Trains each network and prints a table in Markdown."""
    divide_cpu(DIGITS.parallel.cpu_devices)
    columns = "network, parameters, steps, images a second, minutes, label accuracy, precision, recall, memorised"
    print(f"| {columns.replace(', ', ' | ')} |\n{9 * '|---'}|")
    with tempfile.TemporaryDirectory() as temporary:
        for name in arguments.only:
            print(row(name, arguments.minutes, (arguments.keep or Path(temporary)) / name), flush=True)


def row(name: str, allowed: float, run: Path) -> str:
    """Trains a network for the allowed minutes, and its row of the table."""
    config = CONFIGS[name]
    steps = steps_within(config, allowed, run.with_name(f"{run.name}-probe"))
    start = time.monotonic()
    whole = dataclasses.replace(config.train, steps=steps, sample_every=0)
    train(dataclasses.replace(config, train=whole), run)
    minutes = (time.monotonic() - start) / 60
    command = [sys.executable, str(EVALUATE), str(run), "--count", "1000"]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(load_at(run)[1].params))
    judged = " | ".join(f"{found[key]:.3f}" for key in ("label_accuracy", "precision", "recall", "memorised"))
    return f"| {name} | {parameters:,} | {steps} | {last(run, 'images_per_second'):.0f} | {minutes:.1f} | {judged} |"


if __name__ == "__main__":
    command_line.run(main)
