"""Heun's method."""

from jaxdiff.processes import Process
from jaxdiff.solvers import coordinates
from jaxdiff.solvers.runge_kutta import HEUN, runge_kutta
from jaxdiff.solvers.tableau import Grid, Tableau


def heun(process: Process, times: Grid, *, coordinate: coordinates.Name = "auto") -> Tableau:
    """Heun's second-order method on the probability-flow ODE; `runge_kutta` with HEUN.

    A step goes from r to r' in a coordinate `z = x/c` (see `solvers.coordinates`) with the velocity F, and makes two
    evaluations:

        z_e = z + (r' - r) F(z, r)        z' = z + (r' - r) (F(z, r) + F(z_e, r'))/2

    A step that ends without noise makes one evaluation and is Euler's, so that a grid to no noise costs `2 steps - 1`
    evaluations and any other grid `2 steps`. Karras et al. 2022 (arXiv 2206.00364), algorithm 1. Their algorithm 2 is
    `churn` of this solver.

    Args:
      times: `[steps + 1]`, decreasing; or a number of steps. With traced times every step makes two evaluations.
      coordinate: the coordinate of the equation: "sigma", as published; "flow", which can also start without signal
        and is more accurate on variance-preserving processes; or "auto", which is "flow" for the processes that lose
        all signal (`flow`, `vp_cosine`, ...) and "sigma" for all others.

    Raises:
      ValueError: `times` is not a valid grid, or `coordinate` is unknown or infinite on the grid.
    """
    return runge_kutta(process, times, butcher=HEUN, coordinate=coordinate)
