"""Averages of a run on disk: the snapshots that training took, and the averages that `posthoc_ema` makes of them."""

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from jaxtyping import PyTree

from jaxdiff import averages
from jaxdiff.checks import require
from jaxdiff.runs.checkpoints import Checkpoints
from jaxdiff.runs.directory import Run
from jaxdiff.runs.provenance import provenance
from jaxdiff.training import posthoc_ema

# The largest relative error of an average, as `posthoc_ema.Combination` defines it.
LARGEST_ERROR = 0.1


def averages_made(run: Run) -> list[str]:
    """The names of the averages that `store` has written."""
    return sorted(path.name for path in run.averages.glob("power_*") if path.is_dir())


def reconstruct(
    run: Run, widths: Sequence[float], width: float, step: int | None = None
) -> tuple[int, PyTree, posthoc_ema.Combination]:
    """Makes the average of relative width `width` from a run's snapshots.

    Args:
      run: the run.
      widths: the relative widths of the averages in the snapshots.
      width: the relative width of the new average.
      step: the step at which the average ends, which must have a snapshot; None for the newest.

    Returns:
      The step, the average, and the combination of snapshots that gave it.

    Raises:
      ValueError: there are no snapshots, none of this step, or one cannot be read; `width` is outside of
        (0, 1/sqrt(12)); or the snapshots give it with an error above `LARGEST_ERROR`.
    """
    averages.gamma_of_width(width)
    with Checkpoints(run.snapshots, version=provenance()) as checkpoints:
        present = checkpoints.steps()
        if not present or not widths:
            name = averages.power_name(width)
            hint = f", or load the average that training keeps: ema = {name!r}" if width in widths else ""
            raise ValueError(
                f"ema = {width} needs snapshots, and run directory {run.directory} has none: "
                f"train with train.ema_widths and train.snapshot_every{hint}"
            )
        at = present[-1] if step is None else step
        require(at in present, "step", at, f"the steps of the snapshots: {', '.join(map(str, present))}")
        steps = [s for s in present if s <= at]
        found = posthoc_ema.solve([s for s in steps for _ in widths], list(widths) * len(steps), at, width)
        allowed = (
            f"widths with an error of at most {LARGEST_ERROR:.0%}; snapshots of widths "
            f"{', '.join(map(str, widths))} at {len(steps)} steps give this one with {found.error:.0%}"
        )
        require(found.error <= LARGEST_ERROR, "ema", width, allowed)

        def stored() -> Iterable[PyTree]:
            for s in steps:
                parts = checkpoints.restore_parts(None, s)[1]
                yield from (parts[averages.power_name(w)] for w in widths)

        return at, posthoc_ema.combine(found.weights, stored()), found


def store(run: Run, width: float, step: int, average: PyTree) -> Path:
    """Stores an average in the run, where `jd.load(run, ema="power_0.075")` finds it.

    An average of the same width is replaced when the new one is whole on disk.

    Returns:
      The directory of the average.

    Raises:
      ValueError: the average cannot be written.
    """
    name = averages.power_name(width)
    directory, new = run.averages / name, run.averages / f"tmp.{name}"
    shutil.rmtree(new, ignore_errors=True)
    with Checkpoints(new, keep=1, version=provenance()) as checkpoints:
        checkpoints.save(step, {"ema": {name: average}})
    shutil.rmtree(directory, ignore_errors=True)
    new.rename(directory)
    return directory / str(step)
