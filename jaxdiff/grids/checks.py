"""What every grid asks of its arguments."""

from typing import Any

import numpy as np

from jaxdiff.processes import Process, on_host


def check_process_and_steps(process: Process, steps: int) -> Process:
    """The process on the host, once it is known to be one and `steps` to count something."""
    if isinstance(steps, bool) or not isinstance(steps, int | np.integer) or steps < 1:
        raise ValueError(f"steps = {steps!r}; allowed are integers of at least 1")
    return on_host(process)


def check_positive(name: str, value: float) -> None:
    """Raises a ValueError that calls `value` by `name` unless it is a positive finite number."""
    if not 0 < value < np.inf:
        raise ValueError(f"{name} = {value}; allowed are positive finite numbers")


def ratio(process: Process, t: Any) -> Any:
    """`sigma/alpha` at `t` in NumPy; infinite where no signal is left."""
    t = np.asarray(t, np.float64)[()]
    with np.errstate(divide="ignore"):
        return process.sigma(t) / process.alpha(t)


def check_apart(values: np.ndarray, what: str) -> None:
    """Raises a ValueError unless `values` decrease: extreme options put neighbours closer than float64 can tell apart.

    Args:
      what: the options that made them, as the error names them.
    """
    if not np.all(values[1:] < values[:-1]):
        raise ValueError(
            f"{what} puts steps closer together than float64 resolves; allowed are less extreme numbers, or fewer steps"
        )
