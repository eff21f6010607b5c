"""What a run tells while it trains: metrics.jsonl, TensorBoard, Weights & Biases, pictures, and a line for whoever
watches.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import json
import math
import os
import re
import socket
import struct
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import jax
import numpy as np
from numpy.typing import ArrayLike
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import masked_crc32c
from tqdm import tqdm

from jaxdiff.files import write_atomically
from jaxdiff.logging.weights_and_biases import WeightsAndBiases
from jaxdiff.media.pictures import write_png
from jaxdiff.runs.directory import Run

# Share of the time spent waiting for data from which on it is worth telling.
_STARVED = 0.05


class Logger:
    """Writes a run's metrics and pictures, and shows its progress: a bar on a terminal, else a line now and then.

    A context manager. On resuming from `start_step` the lines of `metrics.jsonl` beyond that step are dropped, so that
    the file always reads as one uninterrupted run; TensorBoard is told to do the same. A run in Weights & Biases goes
    on as the same one, whose name is kept in `wandb_id`; steps that it has already stay as they are.

    Once it is made, what cannot be written (a full disk, a closed terminal) is left out, after one warning on standard
    error: training is worth more than a line about it.

    Args:
        directory: the run directory, which exists.
        total_steps: the step at which training ends, at least 1.
        start_step: the step it goes on from; 0 for a new run.
        seconds: least time between two lines where there is no terminal.
        stream: where progress is shown; standard error if None.
        wandb: a project of Weights & Biases to report to as well.
        config: the run's settings, for Weights & Biases.

    Raises:
        ValueError: `total_steps`, `start_step` or `seconds` is out of range, or Weights & Biases refuses the project.
        ImportError: `wandb` is given and the package is not installed.
        OSError: the files cannot be written.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        total_steps: int,
        start_step: int = 0,
        *,
        seconds: float = 10.0,
        stream: TextIO | None = None,
        wandb: str | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        if total_steps < 1:
            raise ValueError(f"total_steps={total_steps}: must be at least 1")
        if start_step < 0:
            raise ValueError(f"start_step={start_step}: must be 0 or more")
        if not seconds >= 0:
            raise ValueError(f"seconds={seconds}: must be 0 or more")
        self._run = Run(Path(directory).absolute())
        self._total, self._seconds = total_steps, seconds
        self._stream = sys.stderr if stream is None else stream
        self._failed: set[str] = set()
        drop_after(self._run.metrics, start_step)
        self._run.samples.mkdir(exist_ok=True)
        self._wandb = None if wandb is None else WeightsAndBiases(self._run, wandb, config or {})
        self._lines = _Records(self._run.metrics)
        host = f"{int(time.time())}.{socket.gethostname()}.{os.getpid()}"
        self._events = _Records(self._run.directory / f"events.out.tfevents.{host}")
        self._event(file_version="brain.Event:2")
        # TensorBoard drops what it has read from this step on.
        self._event(step=start_step + 1, session_log=SessionLog(status=SessionLog.START))
        self._bar: tqdm[Any] | None = None
        if self._stream.isatty():
            self._bar = tqdm(total=total_steps, initial=start_step, unit="step", file=self._stream, dynamic_ncols=True)
        self._step = start_step
        self._began = (start_step, time.monotonic())
        self._first = True
        self._shown = -math.inf

    def __enter__(self) -> Logger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(failed=kind is not None)

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Records scalars at a step: one line of `metrics.jsonl`, TensorBoard, and the progress shown.

        Of the scalars, `loss`, `images_per_second`, `mfu` and `data_wait` (see `throughput.Meter`) are shown.

        Args:
            step: number of finished steps, growing from call to call.
            values: names to scalars (numbers, or arrays of one element). NaN and infinity become `null` in the file.

        Raises:
            ValueError: a value is not a scalar, or is called `step` or `time`.
        """
        scalars = {name: _scalar(name, value) for name, value in values.items()}
        line = {"step": int(step), "time": round(time.time(), 3)}
        finite = {name: value if math.isfinite(value) else None for name, value in scalars.items()}
        with self._going_on("metrics.jsonl"):
            self._lines.append(json.dumps({**line, **finite}, allow_nan=False).encode() + b"\n")
        written = {name: value for name, value in finite.items() if value is not None}
        with self._going_on("TensorBoard's events"):
            summary = Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in written.items()])
            self._event(step=int(step), summary=summary)
        if self._wandb is not None:
            with self._going_on("Weights & Biases", Exception):
                self._wandb.log(int(step), written)
        with self._going_on("progress"):
            self._show(int(step), scalars)

    def image(self, step: int, name: str, image: ArrayLike) -> None:
        """Writes a picture to `samples/<name>_<step>.png`, TensorBoard and Weights & Biases.

        Args:
            step: number of finished steps.
            name: letters, digits, `_`, `-` and `.`.
            image: `[height, width, channels]` uint8, 1, 3 or 4 channels.

        Raises:
            ValueError: `name` or `image` is not as said above.
        """
        if not re.fullmatch(r"[\w.-]+", name):
            raise ValueError(f"name={name!r}: must be made of letters, digits, '_', '-' and '.'")
        path = self._run.samples / f"{name}_{step:08d}.png"
        with self._going_on("samples"):
            write_png(path, image)
            height, width, channels = np.shape(image)
            png = Summary.Image(height=height, width=width, colorspace=channels, encoded_image_string=path.read_bytes())
            with self._going_on("TensorBoard's events"):
                self._event(step=int(step), summary=Summary(value=[Summary.Value(tag=name, image=png)]))
        if self._wandb is not None:
            with self._going_on("Weights & Biases", Exception):
                self._wandb.image(int(step), name, np.asarray(image))

    def close(self, failed: bool = False) -> None:
        """Closes the files, and ends the progress bar. Weights & Biases is told whether training has `failed`."""
        self._lines.close()
        self._events.close()
        if self._bar is not None:
            with self._going_on("progress"):
                self._bar.close()
        if self._wandb is not None:
            with self._going_on("Weights & Biases", Exception):
                self._wandb.close(failed)

    @contextlib.contextmanager
    def _going_on(self, what: str, errors: type[Exception] = OSError) -> Iterator[None]:
        """Turns a failure to write into one warning."""
        try:
            yield
        except errors as error:
            if what not in self._failed:
                self._failed.add(what)
                with contextlib.suppress(OSError):
                    reason = getattr(error, "strerror", None) or error
                    print(f"warning: {what} of {self._run.directory}: {reason}", file=sys.stderr, flush=True)

    def _event(self, **fields: Any) -> None:
        """One record of TensorBoard's format: length, its checksum, an event, its checksum.

        tensorboardX's own writer has a thread, which a full disk ends; what is logged then waits for it for ever.
        """
        data = Event(wall_time=time.time(), **fields).SerializeToString()
        length = struct.pack("<Q", len(data))
        checks = [struct.pack("<I", masked_crc32c(part)) for part in (length, data)]
        self._events.append(length + checks[0] + data + checks[1])

    def _show(self, step: int, scalars: Mapping[str, float]) -> None:
        now = time.monotonic()
        done, self._step = step - self._step, step
        (before, then), first = self._began, self._first
        if first:
            # The first of them waited for the compiler, so the time left is told from those after it.
            self._began, self._first = (step, now), False
        told = [f"loss {scalars['loss']:.4g}"] if "loss" in scalars else []
        if "images_per_second" in scalars:
            told.append(f"{scalars['images_per_second']:.4g} img/s")
        if "mfu" in scalars:
            told.append(f"{scalars['mfu']:.1%} MFU")
        if scalars.get("data_wait", 0.0) >= _STARVED:
            told.append(f"{scalars['waiting']:.0%} waiting for data")
        if self._bar is not None:
            self._bar.set_postfix_str(", ".join(told), refresh=False)
            self._bar.update(done)
            return
        if now - self._shown < self._seconds and step < self._total:
            return
        self._shown = now
        if step > before:
            left = datetime.timedelta(seconds=round((self._total - step) * (now - then) / (step - before)))
            told.append(f"{left} left")
        print("  ".join([f"step {step}/{self._total}", *told]), file=self._stream, flush=True)


class SilentLogger:
    """A `Logger` of the processes that write nothing: all but process 0."""

    def __enter__(self) -> SilentLogger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Does nothing."""

    def image(self, step: int, name: str, image: ArrayLike) -> None:
        """Does nothing."""

    def close(self, failed: bool = False) -> None:
        """Does nothing."""


def make_logger(
    directory: str | os.PathLike[str],
    total_steps: int,
    start_step: int = 0,
    *,
    wandb: str | None = None,
    config: Mapping[str, Any] | None = None,
) -> Logger | SilentLogger:
    """The logger of this process: a `Logger`, whose arguments these are, in process 0, else a `SilentLogger`."""
    if jax.process_index() != 0:
        return SilentLogger()
    return Logger(directory, total_steps, start_step, wandb=wandb, config=config)


class _Records:
    """A file that grows by whole records: one that cannot be written whole leaves nothing."""

    def __init__(self, path: Path) -> None:
        # Unbuffered, so that nothing is left to fail later, and a kill loses nothing.
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115 (close() closes it)

    def append(self, record: bytes) -> None:
        end = self._file.seek(0, os.SEEK_END)
        try:
            if self._file.write(record) != len(record):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            with contextlib.suppress(OSError):
                self._file.truncate(end)
            raise

    def close(self) -> None:
        self._file.close()


def drop_after(metrics: str | os.PathLike[str], step: int) -> None:
    """Removes from a `metrics.jsonl`, if there is one, the lines beyond `step` and any that a kill has torn."""
    path = Path(metrics)
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return
    kept = [line for line in lines if line.endswith(b"\n") and _step_of(line) <= step]
    if kept != lines:
        write_atomically(path, b"".join(kept))


def _step_of(line: bytes) -> float:
    """The step of one line, infinite where it cannot be read."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, TypeError, KeyError):
        return math.inf


def _scalar(name: str, value: Any) -> float:
    if name in ("step", "time"):
        raise ValueError(f"values: the name {name!r} is taken by the line itself")
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind == "c":
        raise ValueError(f"values[{name!r}]: shape {array.shape} and dtype {array.dtype}, must be one real number")
    return float(array.reshape(()))
