"""A trace of chosen steps, as XProf, TensorBoard's profiler and Perfetto show it."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import jax
from jaxtyping import PyTree


class Profiler:
    """Traces the host and this process's devices from a first to a last step.

    A context manager, so that a run that ends early leaves what it has traced. A trace that cannot be written is told
    of on standard error and stops nothing.

        with Profiler(run.directory / "profile", config.log.profile) as profiler:
            for number in range(1, steps + 1):
                with profiler.step(number, state):
                    state, metrics = step(state, batch)

    Args:
      directory: where the trace goes: `plugins/profile/TIME/HOST.xplane.pb` within it.
      steps: the first and the last step, counted from 1; None for no trace.
      steps_per_call: steps that the device makes at a time; the trace is of whole calls.

    Raises:
      ValueError: `steps` or `steps_per_call` is out of range.
    """

    def __init__(
        self, directory: str | os.PathLike[str], steps: tuple[int, int] | None, steps_per_call: int = 1
    ) -> None:
        if steps is not None and not 1 <= steps[0] <= steps[1]:
            raise ValueError(f"steps = {steps}; allowed are a first step from 1 and a last")
        if steps_per_call < 1:
            raise ValueError(f"steps_per_call = {steps_per_call}; allowed are positive integers")
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
        """The place of one call of the compiled step.

        Args:
          number: the first step that the call makes.
          pending: the train state before it, which is waited for where the trace begins or ends, so that it holds these
            steps whole and no others.
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
        """Writes the trace, if there is one under way; what the device has yet to make is not in it."""
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
        print(f"warning: no trace in {self._directory}: {error}", file=sys.stderr, flush=True)
