"""What a run tells while it trains: metrics.jsonl, TensorBoard, sample pictures, and a line for whoever watches."""

from __future__ import annotations

import datetime
import json
import math
import os
import re
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import numpy as np
from numpy.typing import ArrayLike
from tensorboardX import SummaryWriter
from tqdm import tqdm

from jaxdiff.training.images import write_png
from jaxdiff.training.runs import Run, write_atomically


class Logger:
    """Writes a run's metrics and pictures, and shows its progress: a bar on a terminal, else a line now and then.

    A context manager. On resuming from `start_step` the lines of `metrics.jsonl` beyond that step are dropped, so that
    the file always reads as one uninterrupted run; TensorBoard is told to do the same.

    Args:
        directory: the run directory, which exists.
        total_steps: the step at which training ends, at least 1.
        start_step: the step it goes on from; 0 for a new run.
        batch_size: examples a step, for the rate shown.
        seconds: least time between two lines where there is no terminal.
        stream: where progress is shown; standard error if None.

    Raises:
        ValueError: `total_steps`, `start_step`, `batch_size` or `seconds` is out of range.
        OSError: the files cannot be written.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        total_steps: int,
        start_step: int = 0,
        batch_size: int = 1,
        seconds: float = 10.0,
        stream: TextIO | None = None,
    ) -> None:
        if total_steps < 1:
            raise ValueError(f"total_steps={total_steps}: must be at least 1")
        if start_step < 0:
            raise ValueError(f"start_step={start_step}: must be 0 or more")
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size}: must be at least 1")
        if not seconds >= 0:
            raise ValueError(f"seconds={seconds}: must be 0 or more")
        self._run = Run(Path(directory).absolute())
        self._total, self._batch, self._seconds = total_steps, batch_size, seconds
        self._stream = sys.stderr if stream is None else stream
        drop_after(self._run.metrics, start_step)
        self._run.samples.mkdir(exist_ok=True)
        self._lines = open(self._run.metrics, "a", encoding="utf-8")  # noqa: SIM115 (close() closes it)
        self._board = SummaryWriter(str(self._run.directory), purge_step=start_step + 1)
        self._bar: tqdm[Any] | None = None
        if self._stream.isatty():
            self._bar = tqdm(total=total_steps, initial=start_step, unit="step", file=self._stream, dynamic_ncols=True)
        self._last = (start_step, time.monotonic())
        self._shown = -math.inf

    def __enter__(self) -> Logger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Records scalars at a step: one line of `metrics.jsonl`, TensorBoard, and the progress shown.

        Args:
            step: number of finished steps, growing from call to call.
            values: names to scalars (numbers, or arrays of one element). NaN and infinity become `null` in the file.

        Raises:
            ValueError: a value is not a scalar, or is called `step` or `time`.
        """
        scalars = {name: _scalar(name, value) for name, value in values.items()}
        line = {"step": int(step), "time": round(time.time(), 3)}
        finite = {name: value if math.isfinite(value) else None for name, value in scalars.items()}
        self._lines.write(json.dumps({**line, **finite}, allow_nan=False) + "\n")
        self._lines.flush()
        for name, value in finite.items():
            if value is not None:
                self._board.add_scalar(name, value, step)
        self._show(step, scalars)

    def image(self, step: int, name: str, image: ArrayLike) -> Path:
        """Writes a picture to `samples/<name>_<step>.png` and to TensorBoard, and returns the file's path.

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
        write_png(path, image)
        pixels = np.asarray(image)
        if pixels.shape[-1] == 1:
            pixels = np.repeat(pixels, 3, axis=-1)
        self._board.add_image(name, pixels, step, dataformats="HWC")
        return path

    def close(self) -> None:
        """Flushes and closes the files, and ends the progress bar."""
        self._lines.close()
        self._board.close()
        if self._bar is not None:
            self._bar.close()

    def _show(self, step: int, scalars: Mapping[str, float]) -> None:
        now = time.monotonic()
        before, then = self._last
        self._last = (step, now)
        per_second = max(step - before, 0) / max(now - then, 1e-9)
        rate = f"{per_second * self._batch:.0f} img/s"
        loss = f"{scalars['loss']:.4g}" if "loss" in scalars else None
        if self._bar is not None:
            self._bar.set_postfix_str(", ".join(([f"loss={loss}"] if loss else []) + [rate]), refresh=False)
            self._bar.update(step - before)
            return
        if now - self._shown < self._seconds and step < self._total:
            return
        self._shown = now
        parts = [f"step {step}/{self._total}"] + ([f"loss {loss}"] if loss else []) + [rate]
        if per_second > 0:
            left = datetime.timedelta(seconds=round((self._total - step) / per_second))
            parts.append(f"{left} left")
        print("  ".join(parts), file=self._stream, flush=True)


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
