"""Grids of equal steps in time and in log-SNR."""

import numpy as np

from jaxdiff.grids.arguments import SIGMA_MAX, SIGMA_MIN, host_process
from jaxdiff.processes import Process, Times, log_snr, time_of_log_snr


def uniform_time(process: Process, steps: int) -> Times:
    """Equal steps in time, from `t_max` to `t_min`."""
    process = host_process(process, steps)
    return np.linspace(process.t_max, process.t_min, steps + 1, dtype=np.float64)


def uniform_log_snr(
    process: Process, steps: int, *, log_snr_min: float | None = None, log_snr_max: float | None = None
) -> Times:
    """Equal steps in log-SNR. Lu et al. 2022 (DPM-Solver, arXiv 2206.00927), section 3.3.

    Args:
      steps: the number of steps, at least 1.
      log_snr_min: the first log-SNR; by default that at `t_max`. If no signal is left there, it is -8.76, where
        `sigma/alpha` is EDM's 80. The grid then begins below `t_max`, with noise of `prior_sample(..., t=times[0])`.
      log_snr_max: the last log-SNR; by default that at `t_min`. If no noise is left there, it is 12.43, where
        `sigma/alpha` is EDM's 0.002.

    Raises:
      ValueError: the ends are not finite and increasing, or the process does not reach an end.
    """
    process = host_process(process, steps)
    lowest, highest = (log_snr(process, np.float64(t)) for t in (process.t_max, process.t_min))
    start, end = log_snr_min, log_snr_max
    if start is None:
        start = lowest if np.isfinite(lowest) else -2 * np.log(SIGMA_MAX)
    if end is None:
        end = highest if np.isfinite(highest) else -2 * np.log(SIGMA_MIN)
    if not (np.isfinite(start) and np.isfinite(end) and start < end):
        raise ValueError(f"log_snr_min = {start:g}, log_snr_max = {end:g}; allowed are finite increasing ends")
    if start < lowest - 1e-4:
        allowed = f"numbers of at least {lowest:g}, the log-SNR of {type(process).__name__} at t_max"
        raise ValueError(f"log_snr_min = {start:g}; allowed are {allowed}")
    times = time_of_log_snr(process, np.linspace(start, end, steps + 1))
    if start <= lowest:
        times[0] = process.t_max
    if log_snr_max is None and np.isfinite(highest):
        times[-1] = process.t_min
    return times
