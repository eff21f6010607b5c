"""The arguments that all grids share, and the noise levels at the ends of a process."""

from typing import Any

import numpy as np

from jaxdiff import checks
from jaxdiff.processes import Process, on_host


def host_process(process: Process, steps: int) -> Process:
    """Checks the two arguments of every grid, and returns the process with NumPy numbers."""
    checks.integer("steps", steps)
    return on_host(process)


def ratio(process: Process, t: Any) -> Any:
    """Returns `sigma/alpha` at `t` in NumPy; it is infinite where no signal is left."""
    t = np.asarray(t, np.float64)[()]
    with np.errstate(divide="ignore"):
        return process.sigma(t) / process.alpha(t)


def check_decreasing(values: np.ndarray, options: str) -> None:
    """Raises a ValueError unless `values` decrease.

    Extreme options put neighbours closer together than float64 can tell apart.

    Args:
      values: the times, or any other decreasing numbers, of a grid.
      options: the options that the values were made with, for the error: `rho = 7.0 with steps = 1000`.
    """
    if not np.all(values[1:] < values[:-1]):
        raise ValueError(f"{options}; allowed are options whose times float64 can tell apart, or fewer steps")
