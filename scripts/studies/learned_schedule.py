"""Digits by a learned noise schedule and by fixed ones for equal minutes: `python scripts/studies/learned_schedule.py`.

The preset `vdm` is trained by its variational bound, with its own schedule and with fixed ones. The learned schedule
also moves its ends. The table has the log-SNR at both ends after training, and the bound of the held-out digits by the
averaged weights, in bits per dimension. `--log-snr` gives the fixed schedules other ends, such as those that the
learned schedule has found.
"""

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from equal_minutes import last, steps_within

import jaxdiff as jd
from jaxdiff import processes
from jaxdiff.checks import one_of, positive
from jaxdiff.cli import command_line
from jaxdiff.components import choose
from jaxdiff.distributed.cpu_devices import divide_cpu
from jaxdiff.objectives.variational import InLogSNR
from jaxdiff.presets import open_preset
from jaxdiff.runs.loop import train

VDM = open_preset("vdm").config
SCHEDULES: dict[str, Any] = {
    "learned": processes.learned,
    "line in log-SNR": InLogSNR,
    "vp_linear": processes.vp_linear,
    "vp_cosine": processes.vp_cosine,
}


@dataclasses.dataclass(frozen=True)
class Arguments:
    """The schedules, and the time of each."""

    minutes: float = 3.0
    """The minutes of training, without compilation."""
    only: tuple[str, ...] = tuple(SCHEDULES)
    """The schedules."""
    log_snr: tuple[float, float] = (13.3, -5.0)
    """The log-SNR at the ends of the fixed schedules. The learned schedule begins with these, too."""

    def __post_init__(self) -> None:
        positive("minutes", self.minutes)
        for name in self.only:
            one_of("only", name, SCHEDULES)


def schedule(name: str, clean: float, noisy: float) -> Any:
    """The choice of a schedule between two values of the log-SNR."""
    function = SCHEDULES[name]
    if name == "learned":
        return choose(function, gamma_min=-clean, gamma_max=-noisy, hidden=256)
    if name == "line in log-SNR":
        return choose(function, t_min=-clean, t_max=-noisy)
    t_min, t_max = (float(processes.time_of_log_snr(function(), np.float64(value))) for value in (clean, noisy))
    return choose(function, t_min=t_min, t_max=t_max)


def main(arguments: Arguments) -> None:
    """Trains with each schedule and prints a table in Markdown."""
    divide_cpu(VDM.parallel.cpu_devices)
    print("| schedule | log-SNR | steps | bits per dimension |\n|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as root:
        for name in arguments.only:
            print(row(name, arguments, Path(root) / name), flush=True)


def row(name: str, arguments: Arguments, run: Path) -> str:
    """Trains with one schedule, and its row of the table."""
    model: Any = VDM.model
    model = dataclasses.replace(model, process=schedule(name, *arguments.log_snr))
    config = dataclasses.replace(VDM, model=model)
    steps = steps_within(config, arguments.minutes, run.with_name(f"{run.name}-probe"))
    whole = dataclasses.replace(VDM.train, steps=steps, sample_every=0, validate_every=steps)
    train(dataclasses.replace(config, train=whole), run)
    process = jd.load(run).process
    ends = " to ".join(f"{float(processes.log_snr(process, t)):.2f}" for t in (process.t_min, process.t_max))
    return f"| {name} | {ends} | {steps:,} | {last(run, 'validation_loss'):.3f} |"


if __name__ == "__main__":
    command_line.run(main)
