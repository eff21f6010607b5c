"""Saving while training: checkpoints, snapshots of averages, and what happens when saving fails."""

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

from jaxdiff import averages
from jaxdiff.distributed import hosts
from jaxdiff.distributed.collectives import broadcast_from_first
from jaxdiff.runs import directory
from jaxdiff.runs.checkpoints import CheckpointError, Checkpoints
from jaxdiff.runs.checkpoints.store import Restored
from jaxdiff.runs.config import Config
from jaxdiff.runs.directory import Run
from jaxdiff.runs.provenance import provenance
from jaxdiff.training.state import State


class Archive:
    """The checkpoints and the snapshots of a run that trains.

    A full disk may have room later, so a failed save is a warning and training goes on. Only a final save must succeed.
    """

    def __init__(
        self, run: Run, config: Config, settings: dict[str, Any], checkpoints: Checkpoints, snapshots: Checkpoints
    ) -> None:
        self._run, self._checkpoints, self._snapshots, self._settings = run, checkpoints, snapshots, settings
        self._averages = [averages.power_name(width) for width in config.train.ema_widths]

    def restore(self, shapes: State) -> Restored | None:
        """The newest whole checkpoint; None for a new run.

        Args:
          shapes: the shapes of the canonical state, with shardings.

        Raises:
          CheckpointError: no checkpoint is whole.
        """
        # The file system may show files to the other processes later, so the first process decides.
        if not broadcast_from_first(lambda: len(self._checkpoints.steps())):
            return None
        return self._checkpoints.restore(shapes)

    def require_in_place(self) -> None:
        """Raises a ValueError on all processes if the run directory has been moved or deleted.

        Otherwise files would go to a new directory of this name, and training would end without its checkpoints.
        """

        def require() -> int:
            directory.require_in_place(self._run)
            return 0

        broadcast_from_first(require)

    def save(self, step: int, state: State, place: dict[str, Any], loss: float | None, *, final: bool) -> None:
        """Saves a checkpoint in the background. A `final` checkpoint is complete on disk when the call returns.

        Args:
          place: the place in the data, and the metrics of steps that have no line yet.
          loss: by which checkpoints are compared.

        Raises:
          CheckpointError: a final save has failed twice.
        """
        for attempt in range(2):
            try:
                self._checkpoints.save(step, state, place, self._settings, metric=loss)
                if final:
                    self._checkpoints.wait()
                return
            except CheckpointError as error:
                if final and attempt:
                    raise
                _warn(error)

    def take_snapshot(self, step: int, state: State) -> None:
        """Saves the power-function averages in the background, unless there is a snapshot of a later step."""
        # Such a snapshot was taken by this same run before it was interrupted.
        if step <= broadcast_from_first(lambda: max(self._snapshots.steps(), default=0)):
            return
        for _ in range(2):
            try:
                self._snapshots.save(step, {name: state.ema[name] for name in self._averages}, config=self._settings)
                return
            except CheckpointError as error:  # of this snapshot, or of the previous one, which was still being saved
                _warn(error)


@contextlib.contextmanager
def open_archive(run: Run, config: Config, settings: dict[str, Any]) -> Iterator[Archive]:
    """The archive of a run, as a context that waits for the last save.

    Args:
      run: the run.
      config: its configuration.
      settings: the contents of its `config.json`, which every checkpoint holds too.

    Raises:
      ValueError, OSError: the directories cannot be used.
    """
    train, version = config.train, provenance()
    retained = {"keep": train.keep, "keep_every": train.keep_every, "keep_best": train.keep_best}
    with (
        Checkpoints(run.checkpoints, **retained, version=version) as checkpoints,
        Checkpoints(run.snapshots, keep_every=1, version=version) as snapshots,
    ):
        yield Archive(run, config, settings, checkpoints, snapshots)


def _warn(error: CheckpointError) -> None:
    if hosts.first():
        warnings.warn(f"{error}; training goes on", stacklevel=3)
