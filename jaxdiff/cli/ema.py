"""Makes an average of any width out of a run's snapshots: `python scripts/ema.py runs/digits --width 0.075`. It stays
in the run: `python scripts/sample.py runs/digits --ema power_0.075`.
"""

import json
from pathlib import Path
from typing import Annotated

import tyro

from jaxdiff.cli import command_line
from jaxdiff.runs.directory import open_run


def make_average(
    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")],
    width: float,
    step: int | None = None,
) -> None:
    """Makes an average of the parameters out of snapshots, and prints one JSON object.

    Args:
      run: the run directory.
      width: the relative width of the average (EDM2), between 0 and 0.2886.
      step: the snapshot at whose step the average ends; the newest by default.
    """
    from jaxdiff.averages import power_name
    from jaxdiff.runs import snapshots
    from jaxdiff.runs.config_json import from_json
    from jaxdiff.runs.load import read_saved

    opened = open_run(run)
    config = from_json(read_saved(opened)["config"])
    if width in config.train.ema_widths:
        raise ValueError(f"width = {width}; the run has {power_name(width)} already, allowed are other widths")
    at, average, found = snapshots.reconstruct(opened, config.train.ema_widths, width, step)
    path = snapshots.store(opened, width, at, average)
    print(json.dumps({"ema": power_name(width), "step": at, "error": round(found.error, 6), "path": str(path)}))


def main() -> None:
    """Reads the command line and runs `make_average`."""
    command_line.run(make_average)
