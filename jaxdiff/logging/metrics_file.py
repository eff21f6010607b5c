"""`metrics.jsonl`: the metrics of a run, one JSON object per line."""

import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path

from jaxdiff.files import require_regular, write_atomically
from jaxdiff.logging.records import RecordFile


class MetricsFile:
    """Appends lines of metrics to a file. Every line is whole, whatever interrupts the run.

    Args:
      path: the file. The lines after `start_step` are dropped from an existing file.
      start_step: the step that the run continues from.

    Raises:
      OSError: the file cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], start_step: int) -> None:
        drop_after(path, start_step)
        self._file = RecordFile(path)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Appends one line: the step, the time in seconds since 1970, and the values. NaN and infinity become `null`.

        An OSError leaves the file as before.
        """
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        line = {"step": step, "time": round(time.time(), 3), **finite}
        self._file.write(json.dumps(line, allow_nan=False).encode() + b"\n")
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def drop_after(metrics: str | os.PathLike[str], step: int) -> None:
    """Removes all lines after `step`, and all lines that were torn by a kill, from a metrics file if there is one."""
    path = Path(metrics)
    try:
        require_regular(path)
        lines = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return
    kept = [line for line in lines if line.endswith(b"\n") and _step_of(line) <= step]
    if kept != lines:
        write_atomically(path, b"".join(kept))


def _step_of(line: bytes) -> float:
    """The step of one line; infinity if the line cannot be read."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, TypeError, KeyError):
        return math.inf
