"""A trace of chosen steps, for XProf, TensorBoard's profiler or Perfetto."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import jax
from jaxtyping import PyTree

from jaxdiff.checks import integer, require
from jaxdiff.errors import report_error


class Profiler:
    """Traces the host and the devices of this process from a first to a last step.

    The profiler is a context manager, so that a run that ends early still writes its trace. If a trace cannot be
    written, the profiler prints a warning on standard error, and training goes on.

        with Profiler(run.directory / "profile", config.log.profile) as profiler:
            for number in range(1, steps + 1):
                with profiler.step(number, state):
                    state, metrics = step(state, batch)

    Args:
      directory: the trace is the file `plugins/profile/TIME/HOST.xplane.pb` in this directory.
      steps: the first and the last step, counted from 1; None for no trace.
      steps_per_call: the number of steps in one call of the compiled step. The trace holds whole calls.

    Raises:
      ValueError: `steps` or `steps_per_call` is out of range.
    """

    def __init__(
        self, directory: str | os.PathLike[str], steps: tuple[int, int] | None, steps_per_call: int = 1
    ) -> None:
        first, last = steps or (1, 1)
        require(1 <= first <= last, "steps", steps, "pairs of a first step from 1 and a last step")
        integer("steps_per_call", steps_per_call)
        self._directory, self._steps, self._per_call = Path(directory), steps, steps_per_call
        self._tracing = False

    def __enter__(self) -> Profiler:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextlib.contextmanager
    def step(self, number: int, pending: PyTree = None) -> Iterator[None]:
        """A context for one call of the compiled step.

        Args:
          number: the first step of the call.
          pending: the train state before the call. The profiler waits for this state where the trace begins and ends,
            so that the trace holds its steps whole and no others.
        """
        wanted = self._steps is not None and self._steps[0] < number + self._per_call and number <= self._steps[1]
        if wanted != self._tracing:
            jax.block_until_ready(pending)
            if wanted:
                self._start()
            else:
                self.close()
        if not self._tracing:
            yield
            return
        with jax.profiler.StepTraceAnnotation("train", step_num=number):
            yield

    def close(self) -> None:
        """Writes the trace if one has begun. Work that the device has not finished is not in the trace."""
        if self._tracing:
            self._tracing = False
            try:
                jax.profiler.stop_trace()
            except (OSError, RuntimeError) as error:
                self._warn(error)

    def _start(self) -> None:
        try:
            jax.profiler.start_trace(self._directory)
            self._tracing = True
        except (OSError, RuntimeError) as error:
            self._steps = None
            self._warn(error)

    def _warn(self, error: Exception) -> None:
        report_error(f"no trace in {self._directory}: {error}", kind="warning")
