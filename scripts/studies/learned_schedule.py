"""Digits by a learned noise schedule and by fixed ones for equal minutes: `python scripts/studies/learned_schedule.py`.

The preset `vdm` is trained by its variational bound, with its own schedule and with fixed ones between the ends with
which the learned one begins. The number of steps is the number that the minutes allow at the schedule's own speed,
which 40 steps measure before. The table has the bound of the held-out digits by the averaged weights, in bits per
dimension.
"""

import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

from jaxdiff import grids, processes
from jaxdiff.checks import one_of, positive
from jaxdiff.cli import command_line
from jaxdiff.components import choose
from jaxdiff.distributed.cpu_devices import divide_cpu
from jaxdiff.objectives.variational import InLogSNR
from jaxdiff.presets import open_preset
from jaxdiff.runs.loop import train

VDM = open_preset("vdm").config


def line_in_log_snr(t_min: float = -13.3, t_max: float = 5.0) -> InLogSNR:
    """The schedule with which the learned one begins: a line in the log-SNR, between the same ends."""
    return InLogSNR(t_min=t_min, t_max=t_max)


SCHEDULES: dict[str, Any] = {
    "learned": VDM.model.process,  # type: ignore[attr-defined]
    "line in log-SNR": choose(line_in_log_snr),
    "vp_linear": choose(processes.vp_linear, t_min=1.68e-5, t_max=0.704),
    "vp_cosine": choose(processes.vp_cosine, t_min=8.24e-4, t_max=0.948),
}


@dataclasses.dataclass(frozen=True)
class Arguments:
    """The schedules, and the time of each."""

    minutes: float = 3.0
    """The minutes of training, without compilation."""
    only: tuple[str, ...] = tuple(SCHEDULES)
    """The schedules."""

    def __post_init__(self) -> None:
        positive("minutes", self.minutes)
        for name in self.only:
            one_of("only", name, SCHEDULES)


def main(arguments: Arguments) -> None:
    """Trains with each schedule and prints a table in Markdown."""
    divide_cpu(VDM.parallel.cpu_devices)
    print("| schedule | steps | images a second | bits per dimension |\n|---|---|---|---|")
    sampling = dataclasses.replace(VDM.sample, steps=2, grid=choose(grids.uniform_time))
    quiet = dataclasses.replace(VDM.train, log_every=20, sample_every=0, checkpoint_every=10**6)
    with tempfile.TemporaryDirectory() as root:
        for name in arguments.only:
            model = dataclasses.replace(VDM.model, process=SCHEDULES[name])  # type: ignore[type-var]
            config = dataclasses.replace(VDM, model=model, sample=sampling)
            probe, run = Path(root) / f"{name}-probe", Path(root) / name
            train(dataclasses.replace(config, train=dataclasses.replace(quiet, steps=40, validate_every=40)), probe)
            steps = int(60 * arguments.minutes * last(probe, "images_per_second") / VDM.train.batch_size)
            whole = dataclasses.replace(quiet, steps=steps, validate_every=steps)
            train(dataclasses.replace(config, train=whole), run)
            print(
                f"| {name} | {steps} | {last(run, 'images_per_second'):.0f} | {last(run, 'validation_loss'):.3f} |",
                flush=True,
            )


def last(run: Path, metric: str) -> float:
    """The last logged value of a metric of a run."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return float([line[metric] for line in lines if metric in line][-1])


if __name__ == "__main__":
    command_line.run(main)
