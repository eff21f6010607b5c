"""Metrics and pictures for TensorBoard.

tensorboardX formats the events. Its `SummaryWriter` is not used: it writes in a thread, a full disk ends this thread,
and the next call then waits for ever.
"""

import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import register_writer_factory

from jaxdiff.logging.records import RecordFile

_SCHEME = "jaxdiff-records:"


class _Factory:
    """Makes tensorboardX write paths that begin with `_SCHEME` through a `RecordFile`."""

    def open(self, path: str) -> RecordFile:
        return RecordFile(path.removeprefix(_SCHEME))


register_writer_factory(_SCHEME.removesuffix(":"), _Factory())


class TensorBoard:
    """Writes an event file, `events.out.tfevents.TIME.HOST`, without a thread.

    Args:
      directory: where the event file goes.
      start_step: the step that the run continues from. TensorBoard drops what earlier files hold after it.

    Raises:
      OSError: the file cannot be written.
    """

    def __init__(self, directory: str | os.PathLike[str], start_step: int) -> None:
        self._writer = EventsWriter(f"{_SCHEME}{Path(directory) / 'events'}")
        self._write(step=start_step + 1, session_log=SessionLog(status=SessionLog.START))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Writes scalars. NaN and infinity are left out. An OSError leaves the file as before."""
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        scalars = [summary.scalar(name, value).value[0] for name, value in finite.items()]
        self._write(step=step, summary=Summary(value=scalars))

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        """Writes a `[height, width, channels]` uint8 image. An OSError leaves the file as before."""
        self._write(step=step, summary=summary.image(name, image, dataformats="HWC"))

    def close(self) -> None:
        """Closes the file."""
        self._writer.close()

    def _write(self, **fields: Any) -> None:
        self._writer.write_event(Event(wall_time=time.time(), **fields))
        self._writer.flush()
