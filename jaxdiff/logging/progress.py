"""Progress for a person who watches: a bar on a terminal, otherwise a line now and then."""

import datetime
import math
import time
from collections.abc import Mapping
from typing import Any, TextIO

from tqdm import tqdm

# The share of time spent waiting for data from which on the wait is shown.
_SHOWN_WAIT = 0.05


class Progress:
    """Shows the step, the loss, the throughput and the time left.

    Args:
      total_steps: the step at which training ends.
      start_step: the step that the run continues from.
      stream: where progress is shown.
      seconds: the least time between two lines on a stream that is no terminal.
    """

    def __init__(self, total_steps: int, start_step: int, stream: TextIO, seconds: float) -> None:
        self._total, self._seconds, self._stream = total_steps, seconds, stream
        self._bar: tqdm[Any] | None = None
        if stream.isatty():
            self._bar = tqdm(total=total_steps, initial=start_step, unit="step", file=stream, dynamic_ncols=True)
        self._step = start_step
        self._origin = (start_step, time.monotonic())
        self._compiled = False
        self._shown_at = -math.inf

    def show(self, step: int, values: Mapping[str, float]) -> None:
        """Shows a step. Of the values, `loss`, `images_per_second`, `mfu` and `data_wait` are shown.

        Raises:
          OSError: the stream cannot be written.
        """
        now = time.monotonic()
        done, self._step = step - self._step, step
        origin_step, origin_time = self._origin
        if not self._compiled:
            # The steps before the first call include compilation, so later estimates of the time left start here.
            self._origin, self._compiled = (step, now), True
        parts = [f"loss {values['loss']:.4g}"] if "loss" in values else []
        if "images_per_second" in values:
            parts.append(f"{values['images_per_second']:.4g} img/s")
        if "mfu" in values:
            parts.append(f"{values['mfu']:.1%} MFU")
        if values.get("data_wait", 0.0) >= _SHOWN_WAIT:
            parts.append(f"{values['data_wait']:.0%} waiting for data")
        if self._bar is not None:
            self._bar.set_postfix_str(", ".join(parts), refresh=False)
            self._bar.update(done)
            return
        if now - self._shown_at < self._seconds and step < self._total:
            return
        self._shown_at = now
        if step > origin_step:
            seconds_left = (self._total - step) * (now - origin_time) / (step - origin_step)
            parts.append(f"{datetime.timedelta(seconds=round(seconds_left))} left")
        print("  ".join([f"step {step}/{self._total}", *parts]), file=self._stream, flush=True)

    def close(self) -> None:
        """Ends the bar."""
        if self._bar is not None:
            self._bar.close()
