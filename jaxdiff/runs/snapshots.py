"""The averages of a run on its disk: snapshots taken while it trained, and what `power_ema` makes out of them."""

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from jaxtyping import PyTree

from jaxdiff import averages
from jaxdiff.runs.checkpoints import Checkpoints
from jaxdiff.runs.directory import Run
from jaxdiff.runs.provenance import provenance
from jaxdiff.training import posthoc_ema

LARGEST_ERROR = 0.1


def averages_made(run: Run) -> list[str]:
    """The names of the averages kept by `store`."""
    return sorted(path.name for path in run.averages.glob("power_*") if path.is_dir())


def reconstruct(
    run: Run, widths: Sequence[float], width: float, step: int | None = None
) -> tuple[int, PyTree, posthoc_ema.Combination]:
    """The average of relative width `width`, out of a run's snapshots: `(step, average, combination)`.

    Args:
      widths: those that the run has snapshots of.
      step: that of a snapshot; None for the newest.

    Raises:
      ValueError: no snapshots, a step that has none, a width outside of (0, 1/sqrt(12)), or one that the
        snapshots give with an error above a tenth; a snapshot that cannot be read.
    """
    averages.gamma_of_width(width)
    with Checkpoints(run.snapshots, version=provenance()) as checkpoints:
        present = checkpoints.steps()
        if not present or not widths:
            name = averages.power_name(width)
            kept_along = f"; what training keeps itself has a name: ema = {name!r}" if width in widths else ""
            raise ValueError(
                f"ema = {width} needs snapshots, and run directory {run.directory} has none; "
                f"train with train.ema_widths and train.snapshot_every{kept_along}"
            )
        at = present[-1] if step is None else step
        if at not in present:
            raise ValueError(f"step = {at}; allowed are those of the snapshots: {', '.join(map(str, present))}")
        steps = [s for s in present if s <= at]
        found = posthoc_ema.solve([s for s in steps for _ in widths], list(widths) * len(steps), at, width)
        if found.error > LARGEST_ERROR:
            raise ValueError(
                f"ema = {width}; widths {', '.join(map(str, widths))} at {len(steps)} steps give it with an error of "
                f"{found.error:.0%}; allowed are widths that are given to within {LARGEST_ERROR:.0%}"
            )

        def stored() -> Iterable[PyTree]:
            for s in steps:
                parts = checkpoints.restore_parts(None, s)[1]
                yield from (parts[averages.power_name(w)] for w in widths)

        return at, posthoc_ema.combine(found.weights, stored()), found


def store(run: Run, width: float, step: int, average: PyTree) -> Path:
    """Keeps an average in the run, in the place of one of the same width; `jd.load(run, ema="power_0.075")` finds it.

    Raises:
      ValueError: it cannot be written.
    """
    name = averages.power_name(width)
    directory = run.averages / name
    shutil.rmtree(directory, ignore_errors=True)
    with Checkpoints(directory, keep=1, version=provenance()) as checkpoints:
        checkpoints.save(step, {"ema": {name: average}})
    return directory / str(step)
