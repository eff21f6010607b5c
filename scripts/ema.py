"""Makes an average of any width out of a run's snapshots: `python scripts/ema.py runs/digits --width 0.075`. It stays
in the run: `python scripts/sample.py runs/digits --ema power_0.075`.
"""

import json
import sys
from pathlib import Path
from typing import Annotated

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import tyro

from jaxdiff.training import command_line


def main(
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
    from jaxdiff.training import averages, runs
    from jaxdiff.training.config import from_json
    from jaxdiff.training.ema import power_name
    from jaxdiff.training.load import read_saved

    opened = runs.open_run(run)
    config = from_json(read_saved(opened)["config"])
    if width in config.train.ema_widths:
        raise ValueError(f"width = {width}; the run has {power_name(width)} already, allowed are other widths")
    at, average, found = averages.reconstruct(opened, config.train.ema_widths, width, step)
    path = averages.store(opened, width, at, average)
    print(json.dumps({"ema": power_name(width), "step": at, "error": round(found.error, 6), "path": str(path)}))


if __name__ == "__main__":
    command_line.run(main)
