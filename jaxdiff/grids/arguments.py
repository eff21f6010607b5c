"""The arguments that all grids share, and the noise levels at the ends of a process."""

from typing import Any

import numpy as np

from jaxdiff import checks
from jaxdiff.processes import Process, on_host

# The ends of a grid, as ratios `sigma/alpha`, where the process's own end has no noise or no signal: those of EDM.
# Karras et al. 2022 (arXiv 2206.00364), table 1.
SIGMA_MIN, SIGMA_MAX = 0.002, 80.0


def host_process(process: Process, steps: int) -> Process:
    """Checks the two arguments of every grid, and returns the process with NumPy numbers."""
    checks.integer("steps", steps)
    return on_host(process)


def ratio(process: Process, t: Any) -> Any:
    """Returns `sigma/alpha` at `t` in NumPy; it is infinite where no signal is left."""
    t = np.asarray(t, np.float64)[()]
    with np.errstate(divide="ignore"):
        return process.sigma(t) / process.alpha(t)


def ends(process: Process) -> tuple[float, float]:
    """Returns the lowest and the highest ratio `sigma/alpha` of a grid.

    They are the ratios at `t_min` and `t_max`. A ratio of 0 is replaced by `SIGMA_MIN`, and an infinite one by
    `SIGMA_MAX`. A grid that begins at `SIGMA_MAX` starts from the noise of `prior_sample(..., t=times[0])`. As in EDM,
    this noise leaves out the signal, which is 80 times smaller.
    """
    low, high = float(ratio(process, process.t_min)), float(ratio(process, process.t_max))
    return low or SIGMA_MIN, high if np.isfinite(high) else SIGMA_MAX


def check_decreasing(values: np.ndarray, options: str) -> None:
    """Raises a ValueError unless `values` decrease.

    Extreme options put neighbours closer together than float64 can tell apart.

    Args:
      values: the times, or any other decreasing numbers, of a grid.
      options: the options that the values were made with, for the error: `rho = 7.0 with steps = 1000`.
    """
    if not np.all(values[1:] < values[:-1]):
        raise ValueError(f"{options}; allowed are options whose times float64 can tell apart, or fewer steps")
