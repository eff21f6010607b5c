"""The metrics between two lines of `metrics.jsonl`."""

from typing import Any

import jax
import numpy as np

from jaxdiff.checks import require

_NEEDED = {"loss", "skipped", "consecutive_skips"}


class Window:
    """The metrics of the steps since the last line of metrics.

    A checkpoint holds the window, so that a resumed run writes the same next line as a run without interruption.

    Attributes:
      loss: the loss in the last line; None before the first line.
      validation: the loss of the last validation; None before the first.
    """

    def __init__(
        self, calls: list[Any] | None = None, loss: float | None = None, validation: float | None = None
    ) -> None:
        self._calls, self.loss, self.validation = [] if calls is None else calls, loss, validation

    @property
    def judged(self) -> float | None:
        """The loss by which checkpoints are compared: of validation, or else of training."""
        return self.loss if self.validation is None else self.validation

    @classmethod
    def from_json(cls, saved: Any) -> "Window":
        """The window that `to_json` saved.

        Raises:
          ValueError: `saved` is of another form.
        """
        good = isinstance(saved, dict) and set(saved) == {"window", "loss", "validation"}
        good = good and isinstance(saved["window"], list) and all(isinstance(step, dict) for step in saved["window"])
        numbers = [number for step in saved["window"] for number in step.values()] if good else []
        good = good and all(set(step) == set(saved["window"][0]) >= _NEEDED for step in saved["window"])
        good = good and all(isinstance(number, int | float) for number in numbers)
        good = good and all(isinstance(saved[name], float | None) for name in ("loss", "validation"))
        require(good, "metrics since the last line", saved, "numbers by the names of metrics, for each step")
        return cls(saved["window"], saved["loss"], saved["validation"])

    def to_json(self) -> dict[str, Any]:
        """The window as JSON values. The call waits for the device."""
        self._calls = self._steps()
        return {"window": self._calls, "loss": self.loss, "validation": self.validation}

    def append(self, metrics: Any, in_flight: int) -> None:
        """Adds the metrics of a call of the compiled step, and waits until at most `in_flight` calls are unfinished."""
        self._calls.append(metrics)
        if len(self._calls) > in_flight:
            jax.block_until_ready(self._calls[-1 - in_flight])

    def close(self) -> dict[str, float]:
        """Ends the window and begins the next one. The call waits for the device.

        Returns:
          The mean of each metric over the steps that were not skipped; `skipped`, the number of skipped steps; and
          `consecutive_skips`, the largest number of consecutive skipped steps so far.
        """
        steps = self._steps()
        made = [step for step in steps if not step["skipped"]] or steps
        values = {name: float(np.mean([step[name] for step in made])) for name in steps[0]}
        values["skipped"] = sum(step["skipped"] for step in steps)
        values["consecutive_skips"] = max(step["consecutive_skips"] for step in steps)
        self._calls, self.loss = [], values["loss"]
        return values

    def _steps(self) -> list[dict[str, float]]:
        """The metrics of each step as numbers. One call may have made several steps."""
        steps: list[dict[str, float]] = []
        for call in jax.device_get(self._calls):
            columns = {name: np.atleast_1d(values).tolist() for name, values in call.items()}
            steps += [dict(zip(columns, step, strict=True)) for step in zip(*columns.values(), strict=True)]
        return steps
