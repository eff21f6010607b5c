"""Which checkpoints are kept on disk."""

import math
import re
import shutil
from collections.abc import Mapping, MutableMapping
from pathlib import Path

from jaxdiff.runs.checkpoints.meta import read_metric


def steps_in(directory: Path) -> list[int]:
    """The steps of the finished checkpoints in a directory, ascending."""
    if not directory.is_dir():
        return []
    return sorted(int(entry.name) for entry in directory.iterdir() if re.fullmatch(r"0|[1-9]\d*", entry.name))


def retained(metrics: Mapping[int, float | None], last: int, every: int = 0, best: int = 0) -> set[int]:
    """The steps whose checkpoints are kept: the newest, every so many steps, and those with the lowest metric.

    A checkpoint that was removed would not be kept later either: deciding after each save keeps the same steps as
    deciding once at the end of the run.

    Args:
      metrics: the metric of each step on disk; None or NaN if there is none. A step without a metric is never among the
        best. Of equal metrics the earlier step is the better one.
      last: the number of newest checkpoints to keep, at least 1.
      every: multiples of this number are kept for good; 0 for none.
      best: the number of checkpoints with the lowest metric to keep; 0 for none.
    """
    steps = sorted(metrics)
    known = [(metric, step) for step, metric in metrics.items() if metric is not None and not math.isnan(metric)]
    regular = {step for step in steps if every and step % every == 0}
    return {*steps[-last:], *regular, *(step for _, step in sorted(known)[:best])}


def leftovers(directory: Path) -> list[Path]:
    """The directories of saves and of removals that did not end. Other files and links are not ours."""
    ours = (path for path in directory.iterdir() if re.fullmatch(r"tmp\.\d+(\.\d+)?", path.name))
    return [path for path in ours if path.is_dir() and not path.is_symlink()]


def thin_out(
    directory: Path, metrics: MutableMapping[int, float | None], last: int, every: int = 0, best: int = 0
) -> None:
    """Removes the checkpoints that are not `retained`. `metrics` caches the metrics that have been read.

    A directory with a number for its name, but without a manifest, is not ours. Of a checkpoint that is a link, the
    link is removed.

    Raises:
      OSError: a checkpoint cannot be removed. The others have been.
    """
    failure = None
    steps = [step for step in steps_in(directory) if (directory / str(step) / "manifest.json").exists()]
    for step in steps:
        if best and step not in metrics:
            metrics[step] = read_metric(directory / str(step))
    for step in sorted({*steps} - retained({step: metrics.get(step) for step in steps}, last, every, best)):
        path, temporary = directory / str(step), directory / f"tmp.{step}"
        try:
            if path.is_symlink():
                path.unlink()
            else:
                # Renamed first: a kill during the removal leaves a temporary directory, not a broken checkpoint.
                path.rename(temporary)
                shutil.rmtree(temporary)
        except OSError as error:
            failure = error
    if failure is not None:
        raise failure
