"""Time grids: `grid(process, steps, ...) -> times`, `[steps + 1]`, float64 NumPy, decreasing from noise to data.

The denoiser is asked at all but the last. Where it matters how little noise is left at the end: `uniform_time` and
`uniform_log_snr` end at `t_min`, `karras`, `discrete` and `from_sigmas` (if its last is 0) end at `t_clean`, without
any.
"""

from typing import Any, Literal

import numpy as np

from jaxdiff.processes import Process, VPDiscrete, log_snr, on_host, time_of_log_snr

Times = np.ndarray


def _check(process: Process, steps: int) -> Process:
    """The process on the host, once the arguments are known to be good."""
    if isinstance(steps, bool) or not isinstance(steps, int | np.integer) or steps < 1:
        raise ValueError(f"steps = {steps!r}; allowed are integers of at least 1")
    return on_host(process)


def uniform_time(process: Process, steps: int) -> Times:
    """Equal steps in time, from `t_max` to `t_min`."""
    process = _check(process, steps)
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
    process = _check(process, steps)
    start = log_snr(process, np.float64(process.t_max)) if log_snr_min is None else log_snr_min
    end = log_snr(process, np.float64(process.t_min)) if log_snr_max is None else log_snr_max
    if not (np.isfinite(start) and np.isfinite(end) and start < end):
        raise ValueError(
            f"uniform_log_snr on {type(process).__name__} would run from log-SNR {start:g} to {end:g}; allowed are "
            "finite increasing ends: give log_snr_min and log_snr_max"
        )
    times = time_of_log_snr(process, np.linspace(start, end, steps + 1))
    if log_snr_min is None:
        times[0] = process.t_max
    if log_snr_max is None:
        times[-1] = process.t_min
    return times


def from_sigmas(process: Process, sigmas: Any) -> Times:
    """The times at which the ratio `sigma/alpha` takes the given values: the noise levels of EDM and k-diffusion on any
    process.

    Args:
      sigmas: `[steps + 1]`, decreasing ratios; the last may be 0.

    Raises:
      ValueError: not decreasing, negative, or out of the process's reach.
    """
    sigmas = np.asarray(sigmas, np.float64)
    if (
        sigmas.ndim != 1
        or len(sigmas) < 2
        or not np.all(sigmas[1:] < sigmas[:-1])
        or not sigmas[-1] >= 0
        or np.isinf(sigmas[0])
    ):
        raise ValueError(f"sigmas = {sigmas}; allowed is [steps + 1] decreasing finite numbers, the last of at least 0")
    with np.errstate(divide="ignore"):
        return time_of_log_snr(process, -2 * np.log(sigmas))


def karras(
    process: Process, steps: int, *, rho: float = 7.0, sigma_min: float | None = None, sigma_max: float | None = None
) -> Times:
    """Equal steps in `(sigma/alpha)^(1/rho)` from `sigma_max` to `sigma_min`, then 0.

    Karras et al. 2022 (arXiv 2206.00364), equation 5.

    Args:
      rho: how much finer the grid is near the data; 7 in the paper.
      sigma_min, sigma_max: ratios `sigma/alpha`; those of `t_min` and `t_max` by default.

    Raises:
      ValueError: ends that are not `0 < sigma_min < sigma_max < inf`: where no signal is left at `t_max`, or no noise
        at `t_min`, give them.
    """
    process = _check(process, steps)
    low, high = (np.exp(-log_snr(process, np.float64(t)) / 2) for t in (process.t_min, process.t_max))
    low, high = low if sigma_min is None else sigma_min, high if sigma_max is None else sigma_max
    if not 0 < low < high < np.inf:
        raise ValueError(
            f"sigma_min = {low:g}, sigma_max = {high:g}; allowed are 0 < sigma_min < sigma_max < inf; give them"
        )
    if not 0 < rho < np.inf:
        raise ValueError(f"rho = {rho}; allowed are positive finite numbers")
    sigmas = np.linspace(high ** (1 / rho), low ** (1 / rho), steps) ** rho
    times = from_sigmas(process, np.append(sigmas, 0.0))
    if sigma_max is None:
        times[0] = process.t_max
    return times


def discrete(
    process: Process, steps: int, *, spacing: Literal["trailing", "leading", "linspace"] = "trailing"
) -> Times:
    """`steps` of the indices that a discrete process was trained on, then `t_clean` (index -1), where no noise is left.

    Lin et al. 2024 (arXiv 2305.08891), table 2. "trailing" ends every block of indices, and so starts from pure noise;
    "leading" begins every block (DDIM's code); "linspace" spans first to last.

    Raises:
      TypeError: a process without indices.
      ValueError: more steps than indices, or an unknown spacing.
    """
    process = _check(process, steps)
    if not isinstance(process, VPDiscrete):
        raise TypeError(
            f"grids.discrete needs a discrete process, not {type(process).__name__}; `uniform_time` is for others"
        )
    count = len(process.log_snrs)
    if steps > count:
        raise ValueError(f"steps = {steps}; {type(process).__name__} has {count} indices and allows no more")
    if spacing == "trailing":
        indices = np.round(np.arange(steps, 0, -1) * (count / steps)) - 1
    elif spacing == "leading":
        indices = np.arange(steps - 1, -1, -1) * (count // steps)
    elif spacing == "linspace":
        indices = np.round(np.linspace(count - 1, 0, steps))
    else:
        raise ValueError(f"spacing = {spacing!r}; allowed are 'trailing', 'leading' and 'linspace'")
    return np.append(indices.astype(np.float64), process.t_clean)
