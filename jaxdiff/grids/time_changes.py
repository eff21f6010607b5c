"""Grids of equal steps in a function of the process's own time, from `t_max` to `t_min`."""

import numpy as np

from jaxdiff import checks
from jaxdiff.grids.arguments import check_decreasing, host_process
from jaxdiff.processes import Process, Times, log_snr


def polynomial(process: Process, steps: int, *, rho: float = 2.0) -> Times:
    """Equal steps in `t^(1/rho)`:

        t_i = (t_max^(1/rho) + i/steps (t_min^(1/rho) - t_max^(1/rho)))^rho

    This is the power grid of DEIS: Zhang & Chen 2023 (arXiv 2204.13902). With `rho = 2` it is the "quadratic" grid of
    DDIM. With `rho = 1` it is `uniform_time`. On `processes.edm`, where time is the noise level, it is `karras` without
    the last step.

    Args:
      steps: the number of steps, at least 1.
      rho: the exponent. A larger `rho` makes the grid finer near the data.

    Raises:
      ValueError: the time of the process starts below 0; or `rho` is not positive, or so far from 1 that float64 cannot
        tell neighbouring steps apart.
    """
    process = host_process(process, steps)
    checks.positive("rho", rho)
    if process.t_min < 0:
        shown = f"{type(process).__name__} with t_min = {process.t_min}"
        raise ValueError(f"process = {shown}; allowed are processes whose time starts at 0 or above")
    roots = np.linspace(1.0, (process.t_min / process.t_max) ** (1 / rho), steps + 1)
    return _with_exact_ends(process, process.t_max * roots**rho, f"rho = {rho} with steps = {steps}")


def beta(process: Process, steps: int, *, alpha: float = 0.6, beta: float = 0.6) -> Times:
    """Quantiles of a Beta distribution over time, with F the distribution function of Beta(alpha, beta):

        t_i = t_min + (t_max - t_min) F^(-1)(1 - i/steps)

    Lee et al. 2024 (Beta sampling is all you need, arXiv 2407.12173). Parameters below 1 put more steps at both ends.
    With `alpha = beta = 1` it is `uniform_time`. The quantiles are spread over the process's own time. On
    `processes.vp_discrete` this is the index, as in the paper. On `processes.edm` it is the noise level, which is not a
    good variable for this grid.

    Args:
      steps: the number of steps, at least 1.
      alpha: the first parameter of the distribution. A lower `alpha` puts more steps near the data.
      beta: the second parameter of the distribution. A lower `beta` puts more steps near the noise.

    Raises:
      ValueError: a parameter that is not positive, or too extreme.
    """
    from scipy import special

    process = host_process(process, steps)
    checks.positive("alpha", alpha)
    checks.positive("beta", beta)
    quantiles = special.betaincinv(alpha, beta, np.linspace(1.0, 0.0, steps + 1))
    times = process.t_min + (process.t_max - process.t_min) * quantiles
    return _with_exact_ends(process, times, f"alpha = {alpha}, beta = {beta} with steps = {steps}")


def shifted(process: Process, steps: int, *, shift: float = 3.0) -> Times:
    """Equal steps in u, with more steps near the noise for `shift > 1`:

        t = shift u / (1 + (shift - 1) u)

    Esser et al. 2024 (SD3, arXiv 2403.03206), equation 23. The grid was made for `processes.flow`, where
    `sigma/alpha = t/(1 - t) = shift u/(1 - u)`: the shift multiplies every noise level of uniform time. It is
    `sqrt(m/n)` for images of m pixels if the schedule was made for n pixels. On other processes whose time lies in
    [0, 1] it is a change of time and no more.

    The ends stay at `t_max` and `t_min`. With `shift = 1` it is `uniform_time`.

    Args:
      steps: the number of steps, at least 1.
      shift: the factor of the noise levels. Above 1, the grid is finer near the noise.

    Raises:
      ValueError: the time of the process does not lie in [0, 1], or `shift` is not positive or too extreme.
    """
    process = host_process(process, steps)
    checks.positive("shift", shift)
    if not 0 <= process.t_min < process.t_max <= 1:
        shown = f"{type(process).__name__} with times from {process.t_min:g} to {process.t_max:g}"
        raise ValueError(f"process = {shown}; allowed are processes whose time lies in [0, 1], such as flow")
    first, last = (t / (t + shift * (1 - t)) for t in (process.t_max, process.t_min))
    u = np.linspace(first, last, steps + 1)
    return _with_exact_ends(process, shift * u / (shift * u + (1 - u)), f"shift = {shift} with steps = {steps}")


def _with_exact_ends(process: Process, times: Times, options: str) -> Times:
    """Sets the ends of `times` to `t_max` and `t_min`, and checks that times and noise levels decrease."""
    times[0], times[-1] = process.t_max, process.t_min
    check_decreasing(times, options)
    check_decreasing(-log_snr(process, times), options)
    return times
