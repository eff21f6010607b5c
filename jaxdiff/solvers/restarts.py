"""Restarts: intervals of noise that a sampler goes through several times."""

import dataclasses
from typing import Any

import numpy as np

from jaxdiff import trees
from jaxdiff.checks import integer, require
from jaxdiff.processes import Process, log_snr, time_of_log_snr
from jaxdiff.solvers.chain import join
from jaxdiff.solvers.stages import level
from jaxdiff.solvers.tableau import Grid, SolverChoice, Tableau, check_arguments, check_solver


@dataclasses.dataclass(frozen=True)
class Restart:
    """An interval of noise to go through several times (see `restarts`).

    Attributes:
      sigma_min: the lower end of the interval, a ratio `sigma/alpha` above 0 (the paper's t_min).
      sigma_max: the upper end of the interval, a ratio `sigma/alpha` (the paper's t_max).
      repeats: the number of restarts (the paper's K).
      steps: the number of steps of each restart.

    Raises:
      ValueError: not `0 < sigma_min < sigma_max < inf`, or `repeats` or `steps` is not an integer of at least 1.
    """

    sigma_min: float
    sigma_max: float
    repeats: int
    steps: int

    def __post_init__(self) -> None:
        ends = (self.sigma_min, self.sigma_max)
        good = 0 < self.sigma_min < self.sigma_max < np.inf
        require(good, "(sigma_min, sigma_max)", ends, "0 < sigma_min < sigma_max < inf")
        integer("repeats", self.repeats)
        integer("steps", self.steps)


def restarts(process: Process, times: Grid, *, solver: SolverChoice, restarts: tuple[Restart, ...]) -> Tableau:
    """Restart sampling: on some intervals, noise is added again and removed again.

    Let `rho = sigma/alpha` and `z = x/alpha`. When the main grid arrives at `sigma_min`, two things are done `repeats`
    times. First noise is added up to `sigma_max`:

        z' = z + sqrt(sigma_max^2 - sigma_min^2) noise

    Then `solver` goes down again, in `steps` steps that are equal in `rho^(1/7)`. Xu et al. 2023 (Restart, arXiv
    2306.14878), algorithm 1. The main grid is cut at its point nearest to `sigma_min`, except the first point, and the
    cut takes the place of `sigma_min`. Each piece of the grid and each descent is a call of `solver` of its own.

    Args:
      times: `[steps + 1]`, decreasing; or a number of steps. Traced times are refused, because restarts cut the grid by
        value.
      solver: the solver that makes the steps.
      restarts: the intervals in any order. Intervals at the same point are done in the order given.

    Raises:
      TypeError: `solver` is not callable, or an interval is not a Restart.
      ValueError: `times` is not a valid grid or is traced, or the grid or the process does not reach an interval.
    """
    check_solver(solver)
    for i, restart in enumerate(restarts):
        allowed = "Restart(sigma_min, sigma_max, repeats, steps)"
        require(isinstance(restart, Restart), f"restarts[{i}]", restart, allowed, TypeError)
    if trees.traced(times):
        raise ValueError("times = traced values; allowed are known values, because restarts cut the grid by value")
    process, times = check_arguments(process, times)
    alpha, sigma = level(process, times[1:])
    rho = sigma / alpha
    rho = rho[rho > 0]
    good = len(rho) or not restarts
    require(good, "times", times, "grids with a point to restart at, between the first one and a clean end")
    cuts = sorted(((1 + int(np.argmin(abs(rho - r.sigma_min))), r) for r in restarts), key=lambda pair: pair[0])
    pieces: list[Tableau] = []
    lifts: list[float] = []
    noises: list[float] = []

    def append(grid: Any, lift: float = 1.0, noise: float = 0.0) -> None:
        pieces.append(solver(process, grid))
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


def _descent(process: Process, end: Any, restart: Restart) -> tuple[Any, Any]:
    """The grid from `sigma_max` down to the time `end`, equal in `rho^(1/7)`, and the ratio at `end`."""
    low = np.exp(-log_snr(process, end) / 2)
    top = np.exp(-log_snr(process, np.float64(process.t_max)) / 2)
    good = low < restart.sigma_max <= top * (1 + 1e-6)
    allowed = f"ratios above {low:g}, the grid's nearest point to sigma_min, up to {top:g}, the ratio at t_max"
    require(good, "restart.sigma_max", restart.sigma_max, allowed)
    rho = np.linspace(restart.sigma_max ** (1 / 7), low ** (1 / 7), restart.steps + 1) ** 7
    grid = time_of_log_snr(process, -2 * np.log(rho))
    grid[-1] = end
    return grid, low
