"""Digits by a learned noise schedule and by fixed ones for equally many minutes: `python scripts/studies/learned_schedule.py`.

The preset `vdm` is trained by its variational bound, with its own schedule and with fixed ones that end in little noise.
The number of steps is the number that the minutes allow at the schedule's own speed, which 40 steps measure before. The
table has the bound of the held-out digits by the averaged weights, in bits per dimension.
"""

import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

from jaxdiff import processes
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
    "vp_linear": choose(processes.vp_linear),
    "vp_cosine": choose(processes.vp_cosine),
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
    with tempfile.TemporaryDirectory() as root:
        for name in arguments.only:
            model = dataclasses.replace(VDM.model, process=SCHEDULES[name])  # type: ignore[type-var]
            config = dataclasses.replace(VDM, model=model, sample=dataclasses.replace(VDM.sample, steps=2))
            probe, run = Path(root) / f"{name}-probe", Path(root) / name
            short = {"log_every": 20, "sample_every": 0, "checkpoint_every": 10**6}
            train(
                dataclasses.replace(config, train=dataclasses.replace(VDM.train, steps=40, validate_every=40, **short)),
                probe,
            )
            steps = int(60 * arguments.minutes * last(probe, "images_per_second") / VDM.train.batch_size)
            whole = dataclasses.replace(VDM.train, steps=steps, validate_every=steps, **short)
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
