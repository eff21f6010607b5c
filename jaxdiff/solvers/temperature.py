"""Temperature: samples from a score that is divided by a number."""

import dataclasses
import numbers

import numpy as np

from jaxdiff import checks
from jaxdiff.arithmetic import namespace
from jaxdiff.grids.own import loses_signal, own
from jaxdiff.processes import Process
from jaxdiff.solvers.stages import level
from jaxdiff.solvers.tableau import Grid, SolverChoice, Tableau, check_solver


def temperature(
    process: Process, times: Grid, *, solver: SolverChoice, temperature: float, noise: float = 1.0
) -> Tableau:
    """A solver whose score is divided by `temperature`, and whose own noise is multiplied by `noise`.

    The estimates become

        eps' = eps/temperature        x0' = x0 + sigma/alpha (1 - 1/temperature) eps

    so that a tableau changes in its `history_target` only, from `(p, q)` to
    `(p, p sigma/alpha (1 - 1/temperature) + q/temperature)`.

    A temperature below 1 trades diversity for likelihood. This is not sampling from `p^(1/temperature)`, whose noisy
    densities have other scores. For Gaussian data N(0, s^2) under EDM the ODE takes `x_T` to

        x_T (s^2/(s^2 + sigma_T^2))^(1/(2 temperature))

    and the variance of this falls as `sigma_T` grows.

    Args:
      times: the time grid, as `solver` takes it; or a number of steps.
      solver: the solver that makes the steps.
      temperature: the divisor of the score, a finite number above 0; 1 changes nothing.
      noise: the factor of the noise, a finite number of at least 0.

    Raises:
      TypeError: `solver` is not callable.
      ValueError: `temperature` or `noise` is not allowed, or `solver` uses an estimate of the data where no signal is
        left.
    """
    check_solver(solver)
    checks.positive("temperature", temperature)
    checks.not_negative("noise", noise)
    if isinstance(times, numbers.Integral) and temperature != 1 and loses_signal(process):
        times = own(process, times, signal=True)
    tableau = solver(process, times)
    xp, change = namespace(tableau.times), 1 - 1 / temperature
    alpha, sigma = level(tableau.process, tableau.times)
    p, q = tableau.history_target[:, 0], tableau.history_target[:, 1]
    if isinstance(alpha, np.ndarray):  # x0' is infinite where alpha = 0
        good = not change or not np.any((alpha <= 0) & (p != 0))
        checks.require(good, "temperature", temperature, "1, or grids that begin with some signal, alpha > 0")
    ratio = sigma / xp.where(alpha > 0, alpha, 1.0)
    history_target = xp.stack([p, p * ratio * change + q / temperature], axis=-1)
    # The score of a pair that is not consistent is not defined.
    return dataclasses.replace(tableau, history_target=history_target, noise=noise * tableau.noise, form="solve")
