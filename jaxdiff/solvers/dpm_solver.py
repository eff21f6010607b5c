"""Singlestep DPM-Solver and DPM-Solver++: exponential Runge-Kutta methods, and an ancestral one.

Let `l = log(alpha/sigma)`, half the log-SNR, and `h` the step in it. In noise prediction the step is exactly

    x_s = alpha_s/alpha_t x_t - alpha_s int_{l_t}^{l_s} e^{-l} eps(l) dl

and in data prediction

    x_s = sigma_s/sigma_t x_t + sigma_s int_{l_t}^{l_s} e^l x0(l) dl

A singlestep method asks for its estimates inside of the step, at `l_t + r_1 h` and `l_t + r_2 h`, and forgets them at
its end. A weighted mean of two estimates, at `l_t` and at `l_t + r h`, is the integral of the straight line through
them when the second weighs `m/r`, with m the mean of the step's progress under the kernel.
"""

from typing import Any

import numpy as np

from jaxdiff.arithmetic import namespace, root
from jaxdiff.processes import Process, Times, time_of_log_snr
from jaxdiff.solvers.integrals import half_log_snr
from jaxdiff.solvers.quadrature import exponential_moments
from jaxdiff.solvers.stages import Level, level, stages
from jaxdiff.solvers.tableau import Tableau, check_arguments

NOISE, DATA = (0.0, 1.0), (1.0, 0.0)  # what is remembered
PLACES = {1: (), 2: (1 / 2,), 3: (1 / 3, 2 / 3)}  # r_1, r_2 by order


def dpm_solver(process: Process, times: Times, *, order: int = 2) -> Tableau:
    """Singlestep DPM-Solver of order 1 (DDIM), 2 or 3, in noise prediction, `order` evaluations a step.

        x_1 = alpha_1/alpha_t x_t - sigma_1 (e^{r_1 h} - 1) eps_t
        x_2 = alpha_2/alpha_t x_t - sigma_2 (e^{r_2 h} - 1) eps_t - sigma_2 r_2/r_1 phi(r_2 h) (eps_1 - eps_t)

    and of order 2, with `r_1 = 1/2`, and of order 3, with `r_1 = 1/3` and `r_2 = 2/3`, respectively

        x_s = alpha_s/alpha_t x_t - sigma_s (e^h - 1) eps_1
        x_s = alpha_s/alpha_t x_t - sigma_s (e^h - 1) eps_t - sigma_s/r_2 phi(h) (eps_2 - eps_t)

    with `phi(h) = (e^h - 1)/h - 1`. A step to no noise is of order 1. Lu et al. 2022 (arXiv 2206.00927), algorithms 1
    and 2.

    Args:
      times: `[steps + 1]`, decreasing: the ends of the steps, between which it asks too. Uniform log-SNR suits it.
      order: 1, 2 or 3.

    Raises:
      ValueError: a grid that is not one, one that starts where no signal is left, or another order.
    """
    return singlestep(process, times, order, NOISE)


def dpm_solver_pp_singlestep(process: Process, times: Times, *, order: int = 2) -> Tableau:
    """Singlestep DPM-Solver++ of order 1 (DDIM), 2 ("2S") or 3 ("3S"), in data prediction, `order` evaluations a step.

        x_1 = sigma_1/sigma_t x_t + alpha_1 (1 - e^{-r_1 h}) x0_t
        x_2 = sigma_2/sigma_t x_t + alpha_2 (1 - e^{-r_2 h}) x0_t + alpha_2 r_2/r_1 phi(r_2 h) (x0_1 - x0_t)

    and of order 2, with `r_1 = 1/2`, and of order 3, with `r_1 = 1/3` and `r_2 = 2/3`, respectively

        x_s = sigma_s/sigma_t x_t + alpha_s (1 - e^{-h}) x0_1
        x_s = sigma_s/sigma_t x_t + alpha_s (1 - e^{-h}) x0_t + alpha_s/r_2 phi(h) (x0_2 - x0_t)

    with `phi(h) = (e^{-h} - 1)/h + 1`. A step from no signal, or to no noise, is of order 1. Lu et al. 2022 (arXiv
    2211.01095), algorithm 1.

    Args:
      times: `[steps + 1]`, decreasing: the ends of the steps, between which it asks too. Uniform log-SNR suits it.
      order: 1, 2 or 3.

    Raises:
      ValueError: a grid that is not one, or another order.
    """
    return singlestep(process, times, order, DATA)


def dpmpp_2s_ancestral(process: Process, times: Times, *, eta: float = 1.0) -> Tableau:
    """DPM-Solver++ 2S down to less noise than the step's end has, and then noise: two evaluations a step.

    In the ratio `rho = sigma/alpha` each step goes from `rho_t` to `rho_down` by `dpm_solver_pp_singlestep` of order 2,
    and adds noise of standard deviation `rho_up`:

        rho_up = eta rho_s sqrt(1 - rho_s^2/rho_t^2)        rho_down = sqrt(rho_s^2 - rho_up^2)

    A step from no signal, or to no noise, is of order 1. It is k-diffusion's sampler of this name (Crowson 2022), for
    any process; Lu et al. 2022 (arXiv 2211.01095), algorithm 1, for the step.

    Args:
      times: `[steps + 1]`, decreasing.
      eta: in [0, 1]; 0 is `dpm_solver_pp_singlestep`.

    Raises:
      ValueError: a grid that is not one, or `eta` outside of [0, 1].
    """
    return singlestep(process, times, 2, DATA, eta)


def singlestep(
    process: Process, times: Times, order: int, target: tuple[float, float], eta: float | None = None
) -> Tableau:
    """All of the above: in noise or data prediction, of some order, deterministic (`eta` is None) or ancestral."""
    process, times = check_arguments(process, times)
    if isinstance(order, bool) or not isinstance(order, int) or order not in PLACES:
        raise ValueError(f"order = {order!r}; allowed are 1, 2 and 3")
    if eta is not None and not 0 <= eta <= 1:
        raise ValueError(f"eta = {eta}; allowed are numbers from 0 to 1")
    xp, start, stop = namespace(times), level(process, times[:-1]), level(process, times[1:])
    if target == NOISE and isinstance(times, np.ndarray) and start.alpha.min() <= 0:
        raise ValueError(
            f"times start at {times[0]}, where alpha = 0 and the data do not follow from the noise; allowed are times "
            "with alpha > 0, or a solver in data prediction, such as dpm_solver_pp_singlestep"
        )
    l, end, noise = half_log_snr(process, times), stop, None
    below = l[1:]
    if eta:
        decay = stop.sigma / start.sigma * start.alpha / stop.alpha  # rho_s / rho_t
        kept = 1 - eta**2 + (eta * decay) ** 2  # (rho_down / rho_s)^2, and 0 at singular ends when eta = 1
        safe = xp.where(kept > 0, kept, 1.0)
        end = Level(stop.alpha, stop.sigma * root(kept))
        noise = eta * stop.sigma * xp.sqrt(1 - decay**2)
        below = below - xp.log(safe) / 2
    regular = xp.isfinite(l[:-1]) & xp.isfinite(l[1:])
    first, h = xp.where(regular, l[:-1], 0.0), xp.where(regular, below, 1.0) - xp.where(regular, l[:-1], 0.0)
    inside = [time_of_log_snr(process, 2 * (first + place * h)) for place in PLACES[order]]
    asked = xp.stack([times[:-1], *(xp.where(regular, t, times[:-1]) for t in inside)], axis=1)
    return stages(process, times, asked, _weights(xp, h, order, target), target, single=~regular, end=end, noise=noise)


def _weights(xp: Any, h: Any, order: int, target: tuple[float, float]) -> Any:
    """`[steps, order, order]`: the weights of the estimates, the oldest first (see `stages`)."""
    one, zero = xp.ones_like(h), xp.zeros_like(h)

    def progress(length: Any) -> Any:
        """The mean of v in [0, 1] under the kernel `e^{length v}`, or `e^{-length v}` in noise prediction."""
        m = exponential_moments(xp, length, 2)
        mean = m[..., 1] / m[..., 0]
        return mean if target == DATA else 1 - mean

    if order == 1:
        rows = [[one]]
    elif order == 2:
        rows = [[one, zero], [zero, one]]
    else:
        r1, r2 = PLACES[3]
        second, third = r2 / r1 * progress(r2 * h), progress(h) / r2
        rows = [[one, zero, zero], [1 - second, second, zero], [1 - third, zero, third]]
    return xp.stack([xp.stack(row, axis=-1) for row in rows], axis=1)
