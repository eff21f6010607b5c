"""Which checkpoints stay on disk."""

import math
import os
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
    """The steps whose checkpoints stay: the newest ones, those of every so many steps, and those of lowest metric.

    What was once given up would not be wanted later, whatever comes: deciding after each save keeps the same steps as
    deciding once over the whole run.

    Args:
        metrics: the steps on disk, each with its metric; None or NaN where there is none, which is never among the
            best. Of equal metrics the earlier step is the better.
        last: how many of the newest stay, at least 1.
        every: the multiples of this number stay for good; 0 for none.
        best: how many of those with the lowest metric stay; 0 for none.
    """
    steps = sorted(metrics)
    known = [(metric, step) for step, metric in metrics.items() if metric is not None and not math.isnan(metric)]
    regular = {step for step in steps if every and step % every == 0}
    return {*steps[-last:], *regular, *(step for _, step in sorted(known)[:best])}


def thin_out(
    directory: Path, metrics: MutableMapping[int, float | None], last: int, every: int = 0, best: int = 0
) -> None:
    """Removes the checkpoints that are not `retained`. `metrics` remembers those that are known already."""
    steps = steps_in(directory)
    for step in steps:
        if best and step not in metrics:
            metrics[step] = read_metric(directory / str(step))
    for step in sorted({*steps} - retained({step: metrics.get(step) for step in steps}, last, every, best)):
        # Renamed first, so that a kill half-way through the removal leaves rubbish and not a broken checkpoint.
        os.rename(directory / str(step), directory / f"tmp.{step}")
        shutil.rmtree(directory / f"tmp.{step}")
