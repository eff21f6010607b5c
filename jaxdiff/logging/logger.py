"""The logger of a run: metrics and pictures go to every writer, and a writer that fails never stops training."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

import jax
import numpy as np
from PIL import Image

from jaxdiff.checks import integer, not_negative, require
from jaxdiff.errors import report_error
from jaxdiff.files import write_atomically
from jaxdiff.logging.metrics_file import MetricsFile
from jaxdiff.logging.names import METRICS, PLACE, SAMPLES
from jaxdiff.logging.progress import Progress
from jaxdiff.logging.tensorboard import TensorBoard
from jaxdiff.logging.weights_and_biases import WeightsAndBiases


class Logger:
    """Writes the metrics and pictures of a run, and shows its progress.

    The logger is a context manager. When a run resumes from `start_step`, the logger drops the lines of
    `metrics.jsonl` after this step, so that the file reads as one uninterrupted run. TensorBoard is told to do the
    same. Weights & Biases continues the same run, and keeps the steps that it has already.

    Once the logger is made, a write that fails (a full disk, a closed terminal) is left out. The logger prints one
    warning per writer on standard error, and training goes on.

    Args:
      directory: the run directory, which exists.
      total_steps: the step at which training ends, at least 1.
      start_step: the step that the run resumes from; 0 for a new run.
      seconds: the least time between two lines of progress on a stream that is no terminal.
      stream: where progress is shown; None for standard error.
      wandb: a project of Weights & Biases to report to; None for none.
      config: the settings of the run, for Weights & Biases.
      progress: whether to show progress at all.

    Raises:
      ValueError: `total_steps`, `start_step` or `seconds` is out of range, or Weights & Biases refuses the project.
      ImportError: `wandb` is given, and the package is not installed.
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
        progress: bool = True,
    ) -> None:
        integer("total_steps", total_steps)
        integer("start_step", start_step, least=0)
        not_negative("seconds", seconds)
        self._directory = Path(directory).absolute()
        self._samples = self._directory / SAMPLES
        self._samples.mkdir(exist_ok=True)
        self._failed: set[str] = set()
        self._wandb = None if wandb is None else WeightsAndBiases(self._directory, wandb, config or {})
        self._metrics = MetricsFile(self._directory / METRICS, start_step)
        self._tensorboard = TensorBoard(self._directory, start_step)
        self._progress: Progress | None = None
        stream = sys.stderr if stream is None else stream
        if progress and stream is not None:  # a program whose standard error is closed has none
            self._progress = Progress(total_steps, start_step, stream, seconds)

    def __enter__(self) -> Logger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(failed=kind is not None)

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Writes scalars: one line of `metrics.jsonl`, TensorBoard, Weights & Biases, and progress.

        Args:
          step: the number of finished steps, which grows from call to call.
          values: names and scalars (numbers, or arrays with one element). NaN and infinity become `null` in
            `metrics.jsonl`, and are left out elsewhere.

        Raises:
          ValueError: a value is not a scalar, or its name is `step` or `time`.
        """
        scalars = {name: _scalar(name, value) for name, value in values.items()}
        with self._warning_once(METRICS):
            self._metrics.log(int(step), scalars)
        with self._warning_once("TensorBoard's events"):
            self._tensorboard.log(int(step), scalars)
        if self._wandb is not None:
            with self._warning_once("Weights & Biases", Exception):
                self._wandb.log(int(step), scalars)
        if self._progress is not None:
            with self._warning_once("progress"):
                self._progress.show(int(step), scalars)

    def media(self, step: int, files: Mapping[str, bytes]) -> None:
        """Writes files to look at or listen to into `samples/`, and pictures to TensorBoard and Weights & Biases too.

        The file `NAME.EXTENSION` becomes `samples/NAME_STEP.EXTENSION`.

        Args:
          step: the number of finished steps.
          files: the contents of files by name: letters, digits, `_`, `-` and `.`.

        Raises:
          ValueError: a name is not as described above.
        """
        for file, contents in files.items():
            require(re.fullmatch(r"[\w.-]+", file), "name of a file", file, "letters, digits, '_', '-' and '.'")
            path = self._samples / file
            with self._warning_once(SAMPLES):
                write_atomically(path.with_name(f"{path.stem}_{step:08d}{path.suffix}"), contents)
            if path.suffix == ".png":
                self._image(step, path.stem, np.asarray(Image.open(io.BytesIO(contents)).convert("RGB")))

    def _image(self, step: int, name: str, pixels: np.ndarray) -> None:
        with self._warning_once("TensorBoard's events"):
            self._tensorboard.image(int(step), name, pixels)
        if self._wandb is not None:
            with self._warning_once("Weights & Biases", Exception):
                self._wandb.image(int(step), name, pixels)

    def close(self, failed: bool = False) -> None:
        """Closes all writers. Weights & Biases is told whether training has `failed`."""
        self._metrics.close()
        with self._warning_once("TensorBoard's events"):
            self._tensorboard.close()
        if self._progress is not None:
            with self._warning_once("progress"):
                self._progress.close()
        if self._wandb is not None:
            with self._warning_once("Weights & Biases", Exception):
                self._wandb.close(failed)

    @contextlib.contextmanager
    def _warning_once(self, writer: str, errors: type[Exception] = OSError) -> Iterator[None]:
        """Turns the first failure of a writer into a warning, and ignores its later failures."""
        try:
            yield
        except errors as error:
            if writer not in self._failed:
                self._failed.add(writer)
                reason = getattr(error, "strerror", None) or error
                report_error(f"{writer} of {self._directory}: {reason}", kind="warning")


class SilentLogger:
    """A logger that writes nothing, for all processes but the first, and where nobody watches."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Does nothing."""

    def media(self, step: int, files: Mapping[str, bytes]) -> None:
        """Does nothing."""

    def close(self, failed: bool = False) -> None:
        """Does nothing."""


class Console(SilentLogger):
    """A logger that shows progress, and writes no files: for training without a run directory.

    Args:
      total_steps, start_step: as for `Logger`.
    """

    def __init__(self, total_steps: int, start_step: int = 0) -> None:
        self._progress = Progress(total_steps, start_step, sys.stderr, seconds=10.0)

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Shows a step."""
        with contextlib.suppress(OSError):
            self._progress.show(step, values)

    def close(self, failed: bool = False) -> None:
        """Ends the bar."""
        with contextlib.suppress(OSError):
            self._progress.close()


def make_logger(
    directory: str | os.PathLike[str] | None,
    total_steps: int,
    start_step: int = 0,
    *,
    wandb: str | None = None,
    config: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> Logger | SilentLogger:
    """The logger of this process: a `Logger` with these arguments in process 0, a `SilentLogger` elsewhere.

    Without a directory there is a `Console` in process 0. Without `progress`, nothing is shown.
    """
    if jax.process_index() != 0 or not (directory or (progress and sys.stderr)):
        return SilentLogger()
    if directory is None:
        return Console(total_steps, start_step)
    return Logger(directory, total_steps, start_step, wandb=wandb, config=config, progress=progress)


def _scalar(name: str, value: Any) -> float:
    """The value as a number.

    Raises:
      ValueError: the name is taken, or the value is not one real number.
    """
    require(name not in PLACE, "name", name, f"names other than {' and '.join(map(repr, PLACE))}")
    array = np.asarray(value)
    require(array.size == 1, f"values[{name!r}].shape", array.shape, "shapes with one element")
    require(array.dtype.kind != "c", f"values[{name!r}].dtype", array.dtype, "real types")
    return float(array.reshape(()))
