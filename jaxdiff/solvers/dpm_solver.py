"""Singlestep DPM-Solver and DPM-Solver++ (exponential Runge-Kutta methods), and an ancestral sampler.

Let `l = log(alpha/sigma)` be half the log-SNR, and h the step in l. The exact step in noise prediction is

    x_s = alpha_s/alpha_t x_t - alpha_s int_{l_t}^{l_s} e^{-l} eps(l) dl

and in data prediction

    x_s = sigma_s/sigma_t x_t + sigma_s int_{l_t}^{l_s} e^l x0(l) dl

A singlestep method makes further evaluations within the step, at `l_t + r_1 h` and `l_t + r_2 h`, and uses no estimates
of earlier steps. Take the straight line through two estimates, at `l_t` and at `l_t + r h`. Its integral is a weighted
mean of the two, in which the second has the weight `m/r`; m is the mean of the step's progress under the kernel.
"""

from typing import Any

from jaxdiff import checks
from jaxdiff.arithmetic import namespace, root
from jaxdiff.processes import Process, time_of_log_snr
from jaxdiff.solvers.integrals import half_log_snr
from jaxdiff.solvers.quadrature import exponential_moments
from jaxdiff.solvers.stages import Level, level, stages
from jaxdiff.solvers.tableau import Grid, Tableau, check_arguments, check_signal

NOISE, DATA = (0.0, 1.0), (1.0, 0.0)  # `(p, q)` of the prediction
PLACES = {1: (), 2: (1 / 2,), 3: (1 / 3, 2 / 3)}  # r_1, r_2 by order


def dpm_solver(process: Process, times: Grid, *, order: int = 2) -> Tableau:
    """Singlestep DPM-Solver in noise prediction, with `order` evaluations per step.

    Order 1 is DDIM. With `phi(h) = (e^h - 1)/h - 1` the stages are

        x_1 = alpha_1/alpha_t x_t - sigma_1 (e^{r_1 h} - 1) eps_t
        x_2 = alpha_2/alpha_t x_t - sigma_2 (e^{r_2 h} - 1) eps_t - sigma_2 r_2/r_1 phi(r_2 h) (eps_1 - eps_t)

    Order 2 has one stage, at `r_1 = 1/2`, and ends with

        x_s = alpha_s/alpha_t x_t - sigma_s (e^h - 1) eps_1

    Order 3 has two stages, at `r_1 = 1/3` and `r_2 = 2/3`, and ends with

        x_s = alpha_s/alpha_t x_t - sigma_s (e^h - 1) eps_t - sigma_s/r_2 phi(h) (eps_2 - eps_t)

    A step to no noise is of order 1. Lu et al. 2022 (arXiv 2206.00927), algorithms 1 and 2.

    Args:
      times: `[steps + 1]`, decreasing: the ends of the steps; or a number of steps. Stages lie between the ends.
        Uniform log-SNR is a good choice.
      order: 1, 2 or 3.

    Raises:
      ValueError: `times` is not a valid grid or begins without signal, or `order` is not 1, 2 or 3.
    """
    return singlestep(process, times, order, NOISE)


def dpm_solver_pp_singlestep(process: Process, times: Grid, *, order: int = 2) -> Tableau:
    """Singlestep DPM-Solver++ in data prediction, with `order` evaluations per step.

    Order 1 is DDIM; orders 2 and 3 are called "2S" and "3S". With `phi(h) = (e^{-h} - 1)/h + 1` the stages are

        x_1 = sigma_1/sigma_t x_t + alpha_1 (1 - e^{-r_1 h}) x0_t
        x_2 = sigma_2/sigma_t x_t + alpha_2 (1 - e^{-r_2 h}) x0_t + alpha_2 r_2/r_1 phi(r_2 h) (x0_1 - x0_t)

    Order 2 has one stage, at `r_1 = 1/2`, and ends with

        x_s = sigma_s/sigma_t x_t + alpha_s (1 - e^{-h}) x0_1

    Order 3 has two stages, at `r_1 = 1/3` and `r_2 = 2/3`, and ends with

        x_s = sigma_s/sigma_t x_t + alpha_s (1 - e^{-h}) x0_t + alpha_s/r_2 phi(h) (x0_2 - x0_t)

    A step from no signal or to no noise is of order 1. Lu et al. 2022 (arXiv 2211.01095), algorithm 1.

    Args:
      times: `[steps + 1]`, decreasing: the ends of the steps; or a number of steps. Stages lie between the ends.
        Uniform log-SNR is a good choice.
      order: 1, 2 or 3.

    Raises:
      ValueError: `times` is not a valid grid, or `order` is not 1, 2 or 3.
    """
    return singlestep(process, times, order, DATA)


def dpmpp_2s_ancestral(process: Process, times: Grid, *, eta: float = 1.0) -> Tableau:
    """Ancestral DPM-Solver++ 2S: each step goes to less noise than the grid asks for, then adds fresh noise.

    With `rho = sigma/alpha` each step goes from `rho_t` to `rho_down` by `dpm_solver_pp_singlestep` of order 2, in two
    evaluations. Then noise of standard deviation `rho_up` is added:

        rho_up = eta rho_s sqrt(1 - rho_s^2/rho_t^2)        rho_down = sqrt(rho_s^2 - rho_up^2)

    A step from no signal or to no noise is of order 1. This is k-diffusion's sampler of the same name (Crowson 2022),
    for any process; the step is algorithm 1 of Lu et al. 2022 (arXiv 2211.01095).

    Args:
      times: `[steps + 1]`, decreasing; or a number of steps.
      eta: the share of noise that is drawn anew, from 0 to 1; 0 is `dpm_solver_pp_singlestep`.

    Raises:
      ValueError: `times` is not a valid grid, or `eta` is outside of [0, 1].
    """
    return singlestep(process, times, 2, DATA, eta)


def singlestep(
    process: Process, times: Grid, order: int, target: tuple[float, float], eta: float | None = None
) -> Tableau:
    """All methods above: the prediction is `target`, and `eta` is None for deterministic methods."""
    process, times = check_arguments(process, times, signal=target == NOISE)
    checks.integer("order", order, most=3)
    if eta is not None:
        checks.fraction("eta", eta)
    if target == NOISE:
        check_signal(process, times, "solvers in data prediction, such as dpm_solver_pp_singlestep")
    xp, start, stop = namespace(times), level(process, times[:-1]), level(process, times[1:])
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
    stage_times = xp.stack([times[:-1], *(xp.where(regular, t, times[:-1]) for t in inside)], axis=1)
    weights = _weights(xp, h, order, target)
    return stages(process, times, stage_times, weights, target, single=~regular, end=end, noise=noise)


def _weights(xp: Any, h: Any, order: int, target: tuple[float, float]) -> Any:
    """The weights of the estimates, `[steps, order, order]`, the oldest first (see `stages`)."""
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
