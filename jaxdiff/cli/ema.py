"""Makes an average of any width from a run's snapshots: `jaxdiff ema runs/digits --width 0.075`.

The average is stored in the run, and used by `jaxdiff sample runs/digits --ema power_0.075`.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from jaxdiff.checks import require
from jaxdiff.cli import command_line
from jaxdiff.runs.directory import open_run


@dataclasses.dataclass(frozen=True)
class Arguments:
    """A run, and the average to make."""

    run: Path = dataclasses.field(metadata={"positional": True})
    """The run directory."""
    width: float
    """The relative width of the average (EDM2), from 1e-9 to 0.2886."""
    step: int | None = None
    """The step at which the average ends, which must have a snapshot; None for the newest."""


def make_average(arguments: Arguments) -> None:
    """Makes an average of the parameters from snapshots, and prints one JSON object."""
    from jaxdiff.averages import power_name
    from jaxdiff.distributed import all_devices
    from jaxdiff.runs import snapshots
    from jaxdiff.runs.settings import read_settings

    width = arguments.width
    opened = open_run(arguments.run)
    trained = read_settings(opened).config.train.ema_widths
    require(width not in trained, "width", width, f"widths other than those in the run already: {trained}")
    all_devices()
    at, average, found = snapshots.reconstruct(opened, trained, width, arguments.step)
    path = snapshots.store(opened, width, at, average)
    print(json.dumps({"ema": power_name(width), "step": at, "error": round(found.error, 6), "path": str(path)}))


def main(argv: Sequence[str] | None = None) -> None:
    """Reads the command line and runs `make_average`."""
    command_line.run(make_average, argv, prog="jaxdiff ema")
