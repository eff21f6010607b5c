"""Grids of noise levels `sigma/alpha`, as in EDM and k-diffusion, for any process. The last level is 0."""

import numpy as np
from jaxtyping import Float

from jaxdiff import checks
from jaxdiff.checks import message
from jaxdiff.grids.arguments import check_decreasing, ends, host_process, ratio
from jaxdiff.processes import Process, Times, on_host, time_of_log_snr

ROUNDING = 1e-4
"""How far a first level may lie above the highest level of the process, relative to this level.

Tables of levels are printed to a few digits.
"""


def from_sigmas(process: Process, sigmas: tuple[float, ...] | Float[np.ndarray, " steps+1"]) -> Times:
    """The times at which the ratio `sigma/alpha` takes given values.

    The noise levels of EDM and k-diffusion can thus be used on any process.

    Args:
      sigmas: `[steps + 1]`, decreasing ratios; the last one may be 0.

    Raises:
      ValueError: ratios that do not decrease, are negative, or lie above the ratio at `t_max` by more than the rounding
        of printed tables.
    """
    process, sigmas = on_host(process), np.asarray(sigmas, np.float64)
    checks.require(sigmas.ndim == 1 and len(sigmas) > 1, "sigmas.shape", sigmas.shape, "[steps + 1], at least one step")
    good = np.all(sigmas[1:] < sigmas[:-1]) and sigmas[-1] >= 0 and not np.isinf(sigmas[0])
    checks.require(good, "sigmas", sigmas, "decreasing finite numbers of at least 0")
    highest = ratio(process, process.t_max)
    if sigmas[0] > highest * (1 + ROUNDING):
        allowed = f"ratios sigma/alpha of at most {highest:g}, the ratio of {type(process).__name__} at t_max"
        raise ValueError(message("sigmas", sigmas, allowed))
    with np.errstate(divide="ignore"):
        log_snrs = -2 * np.log(sigmas)
    try:
        times = time_of_log_snr(process, log_snrs)
    except ValueError as error:
        raise ValueError(message("sigmas", sigmas, f"ratios sigma/alpha of the process: {error}")) from None
    times[0] = min(times[0], process.t_max)
    return times


def karras(
    process: Process, steps: int, *, rho: float = 7.0, sigma_min: float | None = None, sigma_max: float | None = None
) -> Times:
    """Equal steps in `(sigma/alpha)^(1/rho)` from `sigma_max` to `sigma_min`, then 0.

    Karras et al. 2022 (arXiv 2206.00364), equation 5.

    Args:
      steps: the number of steps, at least 1.
      rho: the exponent. A larger `rho` makes the grid finer near the data; 7 in the paper.
      sigma_min: the lowest ratio `sigma/alpha`; by default the ratio at `t_min`, or EDM's 0.002 if no noise is left
        there.
      sigma_max: the highest ratio `sigma/alpha`; by default the ratio at `t_max`, or EDM's 80 if no signal is left
        there. The grid then begins below `t_max`, with noise of `prior_sample(..., t=times[0])`.

    Raises:
      ValueError: the ends are not `0 < sigma_min < sigma_max < inf`, or the process does not reach an end.
    """
    process = host_process(process, steps)
    low, high = _ends(process, sigma_min, sigma_max)
    checks.positive("rho", rho)
    roots = np.linspace(1.0, (low / high) ** (1 / rho), steps)
    return _then_clean(process, low, high, high * roots**rho, f"rho = {rho} with steps = {steps}")


def exponential(
    process: Process, steps: int, *, sigma_min: float | None = None, sigma_max: float | None = None, rho: float = 1.0
) -> Times:
    """Equal steps in the logarithm of `sigma/alpha` from `sigma_max` to `sigma_min`, then 0.

    All steps but the last are thus equal in log-SNR, and the last one removes all noise. With another `rho` than 1, the
    logarithm is spaced as `u^rho` for equal steps in u from 1 to 0. These are the "exponential" and "polyexponential"
    noise levels of k-diffusion.

    Args:
      steps: the number of steps, at least 1.
      sigma_min: the lowest ratio `sigma/alpha`; the default is that of `karras`.
      sigma_max: the highest ratio `sigma/alpha`; the default is that of `karras`.
      rho: the exponent of the spacing. Above 1, the grid is finer near the data.

    Raises:
      ValueError: as for `karras`.
    """
    process = host_process(process, steps)
    low, high = _ends(process, sigma_min, sigma_max)
    checks.positive("rho", rho)
    u = np.linspace(1.0, 0.0, steps) ** rho
    levels = low * np.exp(u * np.log(high / low))
    return _then_clean(process, low, high, levels, f"rho = {rho} with steps = {steps}")


def _ends(process: Process, sigma_min: float | None, sigma_max: float | None) -> tuple[float, float]:
    """Returns the lowest and the highest level; those of `ends` where none is given."""
    lowest, highest = ends(process)
    low, high = lowest if sigma_min is None else sigma_min, highest if sigma_max is None else sigma_max
    if not 0 < low < high < np.inf:
        allowed = f"0 < sigma_min < sigma_max < inf, with {lowest:g} and {highest:g} for {type(process).__name__}"
        raise ValueError(f"sigma_min = {low:g}, sigma_max = {high:g}; allowed are {allowed}")
    highest = ratio(process, process.t_max)
    if high > highest * (1 + ROUNDING):
        allowed = f"ratios sigma/alpha of at most {highest:g}, the ratio of {type(process).__name__} at t_max"
        raise ValueError(f"sigma_max = {high:g}; allowed are {allowed}")
    return float(low), float(high)


def _then_clean(process: Process, low: float, high: float, levels: np.ndarray, options: str) -> Times:
    """Returns the times of `levels` `[steps]`, from exactly `high` to exactly `low`, and then the clean time."""
    levels[-1], levels[0] = low, high  # a single level is the highest
    check_decreasing(levels, options)
    times = from_sigmas(process, np.append(levels, 0.0))
    if high == ratio(process, process.t_max):
        times[0] = process.t_max
    if low == ratio(process, process.t_min) and len(levels) > 1:
        times[-2] = process.t_min
    check_decreasing(times, options)
    return times
