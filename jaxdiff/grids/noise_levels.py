"""Grids of noise levels `sigma/alpha`, as EDM and k-diffusion give them, on any process; the last level is 0."""

from typing import Any

import numpy as np

from jaxdiff.grids.checks import check_apart, check_positive, check_process_and_steps, ratio
from jaxdiff.processes import Process, Times, on_host, time_of_log_snr

ROUNDING = 1e-4
"""How far above the process's highest, relative to it, a first level may be: tables are printed to a few digits."""


def from_sigmas(process: Process, sigmas: Any) -> Times:
    """The times at which the ratio `sigma/alpha` takes the given values: the noise levels of EDM and k-diffusion on any
    process.

    Args:
      sigmas: `[steps + 1]`, decreasing ratios; the last may be 0.

    Raises:
      ValueError: not decreasing, negative, or above the ratio at `t_max` by more than the rounding of printed tables.
    """
    process, sigmas = on_host(process), np.asarray(sigmas, np.float64)
    if (
        sigmas.ndim != 1
        or len(sigmas) < 2
        or not np.all(sigmas[1:] < sigmas[:-1])
        or not sigmas[-1] >= 0
        or np.isinf(sigmas[0])
    ):
        raise ValueError(f"sigmas = {sigmas}; allowed is [steps + 1] decreasing finite numbers, the last of at least 0")
    highest = ratio(process, process.t_max)
    if sigmas[0] > highest * (1 + ROUNDING):
        raise ValueError(
            f"sigmas = {sigmas}; allowed are ratios sigma/alpha of at most {highest:g}, that of "
            f"{type(process).__name__} at t_max"
        )
    with np.errstate(divide="ignore"):
        wanted = -2 * np.log(sigmas)
    try:
        times = time_of_log_snr(process, wanted)
    except ValueError as error:
        raise ValueError(f"sigmas = {sigmas}; allowed are ratios sigma/alpha that can be met: {error}") from None
    times[0] = min(times[0], process.t_max)
    return times


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
        at `t_min`, give them; an end out of the process's reach.
    """
    process = check_process_and_steps(process, steps)
    low, high = _ends(process, sigma_min, sigma_max)
    check_positive("rho", rho)
    roots = np.linspace(1.0, (low / high) ** (1 / rho), steps)
    return _then_clean(process, low, high, high * roots**rho, f"rho = {rho} with steps = {steps}")


def exponential(
    process: Process, steps: int, *, sigma_min: float | None = None, sigma_max: float | None = None, rho: float = 1.0
) -> Times:
    """Equal steps in the logarithm of `sigma/alpha` from `sigma_max` to `sigma_min`, then 0.

    That is, equal steps in log-SNR but for the last, which goes all the way. With `rho` other than 1 the logarithm is
    spaced as `u^rho` for equal steps in u from 1 to 0: finer near the data for `rho > 1`. The "exponential" and
    "polyexponential" noise levels of k-diffusion.

    Args:
      sigma_min, sigma_max: ratios `sigma/alpha`; those of `t_min` and `t_max` by default.
      rho: the exponent of the spacing.

    Raises:
      ValueError: as `karras`.
    """
    process = check_process_and_steps(process, steps)
    low, high = _ends(process, sigma_min, sigma_max)
    check_positive("rho", rho)
    u = np.linspace(1.0, 0.0, steps) ** rho
    levels = low * np.exp(u * np.log(high / low))
    return _then_clean(process, low, high, levels, f"rho = {rho} with steps = {steps}")


def _ends(process: Process, sigma_min: float | None, sigma_max: float | None) -> tuple[float, float]:
    """The lowest and the highest level, the process's own where none is given."""
    lowest, highest = ratio(process, process.t_min), ratio(process, process.t_max)
    low, high = lowest if sigma_min is None else sigma_min, highest if sigma_max is None else sigma_max
    if not 0 < low < high < np.inf:
        raise ValueError(
            f"sigma_min = {low:g}, sigma_max = {high:g}; allowed are 0 < sigma_min < sigma_max < inf; give them"
        )
    if high > highest * (1 + ROUNDING):
        raise ValueError(
            f"sigma_max = {high:g}; allowed is at most {highest:g}, the ratio sigma/alpha of {type(process).__name__} "
            "at t_max"
        )
    return float(low), float(high)


def _then_clean(process: Process, low: float, high: float, levels: np.ndarray, what: str) -> Times:
    """The times of `levels` `[steps]`, from exactly `high` to exactly `low`, and then that of no noise at all."""
    levels[-1], levels[0] = low, high  # a single level is the highest
    check_apart(levels, what)
    times = from_sigmas(process, np.append(levels, 0.0))
    if high == ratio(process, process.t_max):
        times[0] = process.t_max
    if low == ratio(process, process.t_min) and len(levels) > 1:
        times[-2] = process.t_min
    check_apart(times, what)
    return times
