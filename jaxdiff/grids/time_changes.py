"""Equal steps in a function of the process's own time, from `t_max` to `t_min`."""

import numpy as np

from jaxdiff.grids.checks import check_apart, check_positive, check_process_and_steps
from jaxdiff.processes import Process, Times, log_snr


def polynomial(process: Process, steps: int, *, rho: float = 2.0) -> Times:
    """Equal steps in `t^(1/rho)`: `t_i = (t_max^(1/rho) + i/steps (t_min^(1/rho) - t_max^(1/rho)))^rho`.

    The power grid of DEIS, Zhang & Chen 2023 (arXiv 2204.13902); `rho = 2` is the "quadratic" grid of DDIM. With `rho =
    1` it is `uniform_time`; on `processes.edm`, where time is the noise level, it is `karras` without the last step.

    Args:
      rho: how much finer the grid is near the data.

    Raises:
      ValueError: a process whose time starts below 0, or a `rho` that is not positive, or so far
        from 1 that neighbouring steps cannot be told apart.
    """
    process = check_process_and_steps(process, steps)
    check_positive("rho", rho)
    if process.t_min < 0:
        raise ValueError(
            f"grids.polynomial on {type(process).__name__} with t_min = {process.t_min}; allowed are processes whose "
            "time starts at 0 or above"
        )
    roots = np.linspace(1.0, (process.t_min / process.t_max) ** (1 / rho), steps + 1)
    return _between(process, process.t_max * roots**rho, f"rho = {rho} with steps = {steps}")


def beta(process: Process, steps: int, *, alpha: float = 0.6, beta: float = 0.6) -> Times:
    """Quantiles of a Beta distribution over time: `t = t_min + (t_max - t_min) F^(-1)(1 - i/steps)`, with F the
    distribution function of Beta(alpha, beta).

    Lee et al. 2024 (Beta sampling is all you need, arXiv 2407.12173): below 1 both parameters put more steps at both
    ends. With `alpha = beta = 1` it is `uniform_time`. The quantiles are spread over the process's own time, which is
    the index on `processes.vp_discrete`, as in the paper; on `processes.edm` time is the noise level, which is no place
    to spread them.

    Args:
      alpha, beta: lower `alpha` means more steps near the data, lower `beta` more near the noise.

    Raises:
      ValueError: parameters that are not positive or too extreme.
    """
    from scipy import special

    process = check_process_and_steps(process, steps)
    check_positive("alpha", alpha)
    check_positive("beta", beta)
    quantiles = special.betaincinv(alpha, beta, np.linspace(1.0, 0.0, steps + 1))
    times = process.t_min + (process.t_max - process.t_min) * quantiles
    return _between(process, times, f"alpha = {alpha}, beta = {beta} with steps = {steps}")


def shifted(process: Process, steps: int, *, shift: float = 3.0) -> Times:
    """Equal steps in u, where `t = shift u / (1 + (shift - 1) u)`: more steps near the noise for `shift > 1`.

    Esser et al. 2024 (SD3, arXiv 2403.03206), equation 23. On `processes.flow`, for which it was made, `sigma/alpha =
    t/(1 - t) = shift u/(1 - u)`: every level of uniform time is raised by `shift`, which is `sqrt(m/n)` for m pixels
    where the schedule was made for n. On other processes whose time lies in [0, 1] it is a change of time, no more.

    The ends stay at `t_max` and `t_min`. With `shift = 1` it is `uniform_time`.

    Raises:
      ValueError: a process whose time does not lie in [0, 1], or a `shift` that is not positive or too extreme.
    """
    process = check_process_and_steps(process, steps)
    check_positive("shift", shift)
    if not 0 <= process.t_min < process.t_max <= 1:
        raise ValueError(
            f"grids.shifted on {type(process).__name__}, whose time runs from {process.t_min:g} to {process.t_max:g}; "
            "allowed are processes whose time lies in [0, 1], such as flow"
        )
    first, last = (t / (t + shift * (1 - t)) for t in (process.t_max, process.t_min))
    u = np.linspace(first, last, steps + 1)
    return _between(process, shift * u / (shift * u + (1 - u)), f"shift = {shift} with steps = {steps}")


def _between(process: Process, times: Times, what: str) -> Times:
    """`times` with the ends exact, once they and their noise levels are known to decrease."""
    times[0], times[-1] = process.t_max, process.t_min
    check_apart(times, what)
    check_apart(-log_snr(process, times), what)
    return times
