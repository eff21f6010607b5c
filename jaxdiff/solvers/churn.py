"""Churn: noise that is added at the start of every step, as in EDM's stochastic sampler."""

import dataclasses
import functools
from typing import Any

import numpy as np

from jaxdiff import trees
from jaxdiff.arithmetic import namespace
from jaxdiff.checks import message, require
from jaxdiff.components import Choice
from jaxdiff.processes import Process, Times, log_snr, time_of_log_snr
from jaxdiff.solvers.chain import join
from jaxdiff.solvers.stages import level
from jaxdiff.solvers.tableau import Grid, Solver, SolverChoice, Tableau, check_arguments, check_solver


def churn(
    process: Process,
    times: Grid,
    *,
    solver: SolverChoice,
    s_churn: float,
    s_min: float = 0.0,
    s_max: float = np.inf,
    s_noise: float = 1.0,
) -> Tableau:
    """EDM's churn around any one-step solver: every step begins with more noise than the previous step ended with.

        churn(process, grids.karras(process, 256), solver=heun, s_churn=40.0, s_min=0.05, s_max=50.0, s_noise=1.003)

    Let `rho = sigma/alpha`. A step from a time t with `s_min <= rho <= s_max` first adds noise up to the ratio
    `rho_hat`, which the process has at the time `t_hat`. Then the solver steps on from there:

        rho_hat = rho (1 + min(s_churn/steps, sqrt(2) - 1))
        x_hat = alpha(t_hat) (x/alpha(t) + s_noise sqrt(rho_hat^2 - rho^2) z)

    With `heun` it is the stochastic sampler of Karras et al. 2022 (arXiv 2206.00364), algorithm 2. A step that begins
    without signal has no churn. `t_hat` may lie above the `t_max` of the process.

    Args:
      times: `[steps + 1]`, decreasing; or a number of steps.
      solver: the solver that makes the steps. Each step must depend on its own ends only.
      s_churn: the noise that all steps add together, relative to the noise that they begin with; at least 0.
      s_min: the lowest ratio `sigma/alpha` at which noise is added, at least 0.
      s_max: the highest ratio `sigma/alpha` at which noise is added, at least 0.
      s_noise: a factor of the noise, finite and at least 0.

    Raises:
      TypeError: `solver` is not callable.
      ValueError: `times` is not a valid grid, a number is negative, or `solver` carries something from step to step.
    """
    check_solver(solver)
    for name, value in (("s_churn", s_churn), ("s_min", s_min), ("s_max", s_max), ("s_noise", s_noise)):
        require(value >= 0 and (name != "s_noise" or value < np.inf), name, value, "numbers of at least 0")
    process, times = check_arguments(process, times)
    _check_one_step(solver, process, times)
    if not s_churn:
        return solver(process, times)
    xp, steps = namespace(times), len(times) - 1
    begin, end = times[:-1], times[1:]
    alpha, sigma = level(process, begin)
    factor = 1 + min(s_churn / steps, np.sqrt(2) - 1)
    rho = sigma / xp.where(alpha > 0, alpha, 1.0)
    raised = (alpha > 0) & (rho >= s_min) & (rho <= s_max)
    middle = xp.asarray((process.t_min + process.t_max) / 2)  # any regular time serves for steps without churn
    ratio = xp.where(raised, rho, xp.exp(-log_snr(process, middle) / 2))
    louder = xp.where(raised, time_of_log_snr(process, -2 * xp.log(ratio * factor)), begin)
    lift = xp.where(raised, process.alpha(louder) / xp.where(raised, alpha, 1.0), 1.0)
    noise = xp.where(raised, s_noise * process.alpha(louder) * ratio * np.sqrt(factor**2 - 1), 0.0)
    wide = _reaching(process, louder, times)
    pieces = [solver(wide, xp.stack([louder[i], end[i]])) for i in range(steps)]
    return dataclasses.replace(join(pieces, lift, noise), process=process)


def _check_one_step(solver: Solver, process: Process, times: Times) -> None:
    """Raises a ValueError if a step depends on more than its own ends.

    A few steps within the process are made at once and one by one, and must be the same. A solver that does not make
    these steps, but makes those of `times`, depends on the whole grid.
    """
    if trees.traced(process):
        return  # traced numbers cannot be compared
    allowed = "one-step solvers, such as heun, dpm_2 and ddim"
    few = process.t_min + (process.t_max - process.t_min) * np.linspace(0.7, 0.3, 6)
    try:
        whole = solver(process, few)
        alone = join([solver(process, few[i : i + 2]) for i in range(5)], [1.0] * 5, [0.0] * 5)
    except ValueError:
        solver(process, times)  # an error about the solver's options comes first
        raise ValueError(message("solver", _name(solver), allowed)) from None
    for field in ("times", "state", "noise", "history_target"):
        one, other = getattr(whole, field), getattr(alone, field)
        same = one.shape == other.shape and np.allclose(one, other, rtol=1e-6, atol=1e-9)
        require(same, "solver", _name(solver), allowed)


def _name(solver: Solver) -> str:
    """The name of a solver in error messages."""
    function = solver.func if isinstance(solver, functools.partial) else solver
    function = function.function if isinstance(function, Choice) else function
    return getattr(function, "__name__", repr(function))


def _reaching(process: Process, louder: Any, times: Times) -> Process:
    """The process with a `t_max` that is not below the times with churn, `louder`."""
    if trees.traced(times) or louder.max() <= process.t_max:
        return process
    wide = dataclasses.replace(process, t_max=float(louder.max()))
    for t in (louder, times):
        same = np.allclose([wide.alpha(t), wide.sigma(t)], [process.alpha(t), process.sigma(t)], rtol=1e-9, atol=0)
        allowed = f"times up to t_max = {process.t_max}, on which alpha and sigma of {type(process).__name__} depend"
        require(same, "a time with churn", louder.max(), f"{allowed}: start the grid lower, or lower s_max")
    return wide
