"""Transformations: from a solver, another one.

    solver = with_churn(heun, s_churn=40.0, s_min=0.05, s_max=50.0, s_noise=1.003)
    tableau = solver(process, grids.karras(process, 256))

What a transformation returns is a function `(process, times, **options) -> Tableau`, as what it is given; the options
are those of the solver within.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxdiff.arithmetic import namespace
from jaxdiff.processes import Process, Times, log_snr, time_of_log_snr
from jaxdiff.solvers.chain import join
from jaxdiff.solvers.stages import level
from jaxdiff.solvers.tableau import Tableau, check_arguments

Solver = Callable[..., Tableau]


def with_churn(
    solver: Solver, *, s_churn: float, s_min: float = 0.0, s_max: float = np.inf, s_noise: float = 1.0
) -> Solver:
    """EDM's churn around any one-step solver: every step begins with more noise than the last one ended with.

    In the ratio `rho = sigma/alpha`, where `s_min <= rho <= s_max`, and from t to the time `t_hat` at which the ratio
    is `rho_hat`, before the solver steps on from there:

        rho_hat = rho (1 + min(s_churn/steps, sqrt(2) - 1))
        x_hat = alpha(t_hat) (x/alpha(t) + s_noise sqrt(rho_hat^2 - rho^2) z)

    `with_churn(heun, ...)` is the stochastic sampler of Karras et al. 2022 (arXiv 2206.00364), algorithm 2. Nothing is
    noisier than no signal: a step from there has no churn. `t_hat` may lie above the process's `t_max`.

    Args:
      solver: `(process, times, **options) -> Tableau`, each of whose steps depends on nothing but its ends.
      s_churn, s_min, s_max, s_noise: as in the paper; numbers of at least 0.

    Raises:
      TypeError: `solver` is not callable.
      ValueError: a negative number; of the solver returned, one that carries something over its steps, or what
        `solver` raises.
    """
    _check_solver(solver)
    for name, value in (("s_churn", s_churn), ("s_min", s_min), ("s_max", s_max), ("s_noise", s_noise)):
        if not value >= 0 or (name == "s_noise" and value == np.inf):
            raise ValueError(f"{name} = {value}; allowed are numbers of at least 0")

    def churned(process: Process, times: Times, **options: Any) -> Tableau:
        process, times = check_arguments(process, times)
        _check_one_step(solver, process, options)
        if not s_churn:
            return solver(process, times, **options)
        xp, steps = namespace(times), len(times) - 1
        begin, end = times[:-1], times[1:]
        alpha, sigma = level(process, begin)
        factor = 1 + min(s_churn / steps, np.sqrt(2) - 1)
        rho = sigma / xp.where(alpha > 0, alpha, 1.0)
        raised = (alpha > 0) & (rho >= s_min) & (rho <= s_max)
        middle = xp.asarray((process.t_min + process.t_max) / 2)  # a time like any other, for steps without churn
        ratio = xp.where(raised, rho, xp.exp(-log_snr(process, middle) / 2))
        louder = xp.where(raised, time_of_log_snr(process, -2 * xp.log(ratio * factor)), begin)
        lift = xp.where(raised, process.alpha(louder) / xp.where(raised, alpha, 1.0), 1.0)
        noise = xp.where(raised, s_noise * process.alpha(louder) * ratio * np.sqrt(factor**2 - 1), 0.0)
        wide = _reaching(process, louder, times)
        pieces = [solver(wide, xp.stack([louder[i], end[i]]), **options) for i in range(steps)]
        return dataclasses.replace(join(pieces, lift, noise), process=process)

    return churned


class Restart(NamedTuple):
    """An interval to go through again and again (see `with_restarts`).

    Attributes:
      sigma_min, sigma_max: its ends, ratios `sigma/alpha` (the paper's t_min and t_max).
      repeats: how often (the paper's K).
      steps: how many steps each time takes.
    """

    sigma_min: float
    sigma_max: float
    repeats: int
    steps: int


def with_restarts(solver: Solver, *, restarts: Sequence[Restart]) -> Solver:
    """Restart sampling: on the way down, noise is added again and taken away again, over some intervals.

    When the main grid comes to `sigma_min`, the following is done `repeats` times, in the ratio `rho = sigma/alpha` and
    `z = x/alpha`: noise up to `sigma_max`,

        z' = z + sqrt(sigma_max^2 - sigma_min^2) noise

    and down again by `solver`, in `steps` steps that are equal in `rho^(1/7)`. Xu et al. 2023 (Restart, arXiv
    2306.14878), algorithm 1. The main grid is cut at its point nearest to `sigma_min`, without its first, and that
    point is taken for `sigma_min`. Every piece of the grid, and every descent, is a call of `solver` of its own.

    Args:
      solver: any; `(process, times, **options) -> Tableau`.
      restarts: in any order; those at one point are done as they come.

    Raises:
      TypeError: `solver` is not callable, or a restart is not a Restart.
      ValueError: a restart that is not `0 < sigma_min < sigma_max < inf`, `repeats >= 1` and `steps >= 1`; of the
        solver returned, an interval that the grid or the process does not reach, traced times, or what `solver` raises.
    """
    _check_solver(solver)
    restarts = tuple(restarts)
    for restart in restarts:
        if not isinstance(restart, Restart):
            raise TypeError(f"restarts has {restart!r}; allowed are Restart(sigma_min, sigma_max, repeats, steps)")
        if not 0 < restart.sigma_min < restart.sigma_max < np.inf:
            raise ValueError(f"restarts has {restart}; allowed are 0 < sigma_min < sigma_max < inf")
        for name in ("repeats", "steps"):
            value = getattr(restart, name)
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
                raise ValueError(f"restarts has {name} = {value!r}; allowed are integers of at least 1")

    def restarted(process: Process, times: Times, **options: Any) -> Tableau:
        if isinstance(times, jax.core.Tracer):
            raise ValueError("times are being traced; with_restarts cuts grids where their numbers say")
        process, times = check_arguments(process, times)
        alpha, sigma = level(process, times[1:])
        rho = sigma / alpha
        rho = rho[rho > 0]
        if restarts and not len(rho):
            raise ValueError(f"times = {times} have no point between the first and the clean one to restart at")
        cuts = sorted(((1 + int(np.argmin(abs(rho - r.sigma_min))), r) for r in restarts), key=lambda pair: pair[0])
        pieces: list[Tableau] = []
        lifts: list[float] = []
        noises: list[float] = []

        def append(grid: Any, lift: float = 1.0, noise: float = 0.0) -> None:
            pieces.append(solver(process, grid, **options))
            lifts.append(lift)
            noises.append(noise)

        done = 0
        for cut, restart in cuts:
            if cut > done:
                append(times[done : cut + 1])
                done = cut
            grid, low = _descent(process, times[cut], restart)
            high = process.alpha(grid[0])
            spread = np.sqrt(restart.sigma_max**2 - low**2)
            for _ in range(restart.repeats):
                append(grid, high / process.alpha(times[cut]), high * spread)
        if done < len(times) - 1:
            append(times[done:])
        return join(pieces, lifts, noises)

    return restarted


def with_temperature(solver: Solver, *, temperature: float, noise: float = 1.0) -> Solver:
    """A solver that takes the score for `1/temperature` of what it is, and its noise for `noise` times what it is.

    `eps' = eps/temperature`, and with it `x0' = x0 + sigma/alpha (1 - 1/temperature) eps`, so that what was remembered
    as `(p, q)` becomes `(p, p sigma/alpha (1 - 1/temperature) + q/temperature)`; nothing else in the tableau changes.

    Below 1 it trades diversity for likelihood. It is not sampling from `p^(1/temperature)`: the noisy densities of that
    have other scores. The ODE takes Gaussian data N(0, s^2) under EDM from `x_T` to
    `x_T (s^2/(s^2 + sigma_T^2))^(1/(2 temperature))`, of a variance that falls with `sigma_T`.

    Args:
      solver: any; `(process, times, **options) -> Tableau`.
      temperature: positive; 1 changes nothing.
      noise: at least 0.

    Raises:
      TypeError: `solver` is not callable.
      ValueError: a number that is not allowed; of the solver returned, one that asks for data where no signal is left.
    """
    _check_solver(solver)
    if not 0 < temperature < np.inf:
        raise ValueError(f"temperature = {temperature}; allowed are positive finite numbers")
    if not 0 <= noise < np.inf:
        raise ValueError(f"noise = {noise}; allowed are finite numbers of at least 0")

    def tempered(process: Process, times: Times, **options: Any) -> Tableau:
        tableau = solver(process, times, **options)
        xp, change = namespace(tableau.times), 1 - 1 / temperature
        alpha, sigma = level(tableau.process, tableau.times)
        p, q = tableau.history_target[:, 0], tableau.history_target[:, 1]
        if change and isinstance(alpha, np.ndarray) and np.any((alpha <= 0) & (p != 0)):
            raise ValueError(
                f"temperature = {temperature} moves the data infinitely far where alpha = 0, at the start of this "
                "grid; allowed there is 1"
            )
        ratio = sigma / xp.where(alpha > 0, alpha, 1.0)
        history_target = xp.stack([p, p * ratio * change + q / temperature], axis=-1)
        return dataclasses.replace(tableau, history_target=history_target, noise=noise * tableau.noise)

    return tempered


def _check_solver(solver: Any) -> None:
    if not callable(solver):
        raise TypeError(f"solver = {solver!r}; allowed are functions (process, times, **options) -> Tableau")


def _check_one_step(solver: Solver, process: Process, options: dict[str, Any]) -> None:
    """Refuses a solver whose steps depend on more than their own ends: a few of them at once, inside of the process,
    are not those steps one by one.
    """
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(process)):
        return  # nothing can be compared
    name = getattr(solver, "__name__", repr(solver))
    times = process.t_min + (process.t_max - process.t_min) * np.linspace(0.7, 0.3, 6)
    whole = solver(process, times, **options)
    alone = join([solver(process, times[i : i + 2], **options) for i in range(5)], [1.0] * 5, [0.0] * 5)
    for field in ("times", "state", "noise", "history_target"):
        one, other = getattr(whole, field), getattr(alone, field)
        if one.shape != other.shape or not np.allclose(one, other, rtol=1e-6, atol=1e-9):
            raise ValueError(
                f"solver = {name} carries something over from step to step; with_churn allows one-step solvers, such "
                "as heun, dpm_2 and ddim"
            )


def _reaching(process: Process, louder: Any, times: Times) -> Process:
    """The process up to the loudest of these times, which may lie above its `t_max`."""
    if isinstance(times, jax.core.Tracer) or louder.max() <= process.t_max:
        return process
    wide = dataclasses.replace(process, t_max=float(louder.max()))
    for t in (louder, times):
        if not np.allclose([wide.alpha(t), wide.sigma(t)], [process.alpha(t), process.sigma(t)], rtol=1e-9, atol=0):
            raise ValueError(
                f"s_churn raises times to {louder.max()}, above t_max = {process.t_max}, on which alpha and sigma of "
                f"{type(process).__name__} depend; allowed are grids that start lower, or a smaller s_max"
            )
    return wide


def _descent(process: Process, end: Any, restart: Restart) -> tuple[Any, Any]:
    """The grid from `sigma_max` down to the time `end`, equal in `rho^(1/7)`, and the ratio at its end."""
    low = np.exp(-log_snr(process, end) / 2)
    top = np.exp(-log_snr(process, np.float64(process.t_max)) / 2)
    if not low < restart.sigma_max <= top * (1 + 1e-6):
        raise ValueError(
            f"restarts has sigma_max = {restart.sigma_max}; allowed from the grid's point at {low:g} are ratios above "
            f"it and up to {top:g}, the process's end"
        )
    rho = np.linspace(restart.sigma_max ** (1 / 7), low ** (1 / 7), restart.steps + 1) ** 7
    grid = time_of_log_snr(process, -2 * np.log(rho))
    grid[-1] = end
    return grid, low
