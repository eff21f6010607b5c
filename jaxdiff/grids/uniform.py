"""Equal steps in time and in log-SNR."""

import numpy as np

from jaxdiff.grids.checks import check_process_and_steps
from jaxdiff.processes import Process, Times, log_snr, time_of_log_snr


def uniform_time(process: Process, steps: int) -> Times:
    """Equal steps in time, from `t_max` to `t_min`."""
    process = check_process_and_steps(process, steps)
    return np.linspace(process.t_max, process.t_min, steps + 1, dtype=np.float64)


def uniform_log_snr(
    process: Process, steps: int, *, log_snr_min: float | None = None, log_snr_max: float | None = None
) -> Times:
    """Equal steps in log-SNR. Lu et al. 2022 (DPM-Solver, arXiv 2206.00927), section 3.3.

    Args:
      log_snr_min, log_snr_max: the log-SNR to start from and to end at; those of `t_max` and `t_min` by default, which
        must be finite.

    Raises:
      ValueError: an end that is not finite or not reached by the process.
    """
    process = check_process_and_steps(process, steps)
    start = log_snr(process, np.float64(process.t_max)) if log_snr_min is None else log_snr_min
    end = log_snr(process, np.float64(process.t_min)) if log_snr_max is None else log_snr_max
    if not (np.isfinite(start) and np.isfinite(end) and start < end):
        raise ValueError(
            f"uniform_log_snr on {type(process).__name__} would run from log-SNR {start:g} to {end:g}; allowed are "
            "finite increasing ends: give log_snr_min and log_snr_max"
        )
    lowest = log_snr(process, np.float64(process.t_max))
    if start < lowest - 1e-4:
        raise ValueError(
            f"log_snr_min = {start:g}; allowed is at least {lowest:g}, that of {type(process).__name__} at t_max"
        )
    times = time_of_log_snr(process, np.linspace(start, end, steps + 1))
    if start <= lowest:
        times[0] = process.t_max
    if log_snr_max is None:
        times[-1] = process.t_min
    return times
