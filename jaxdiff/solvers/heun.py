"""Heun's method."""

from jaxdiff.processes import Process, Times
from jaxdiff.solvers import coordinates
from jaxdiff.solvers.runge_kutta import HEUN, runge_kutta
from jaxdiff.solvers.tableau import Tableau


def heun(process: Process, times: Times, *, coordinate: coordinates.Name = "sigma") -> Tableau:
    """Heun's second-order method on the probability-flow ODE.

    Two evaluations a step from r to r' in a coordinate `z = x/c` (see `solvers.coordinates`) with velocity F:

        z_e = z + (r' - r) F(z, r)        z' = z + (r' - r) (F(z, r) + F(z_e, r'))/2

    but one, Euler's, when the step ends without noise: `2 steps - 1` evaluations then, `2 steps` otherwise. Karras et
    al. 2022 (arXiv 2206.00364), algorithm 1; algorithm 2 is `with_churn(heun, ...)`. It is `runge_kutta` with HEUN.

    Args:
      times: `[steps + 1]`, decreasing. All evaluations of a last step without noise are made where times are traced.
      coordinate: "sigma", as published, or "flow", which also starts where no signal is left, and is the better one on
        variance-preserving processes.

    Raises:
      ValueError: a grid that is not one, an unknown coordinate or one that is infinite on the grid.
    """
    return runge_kutta(process, times, butcher=HEUN, coordinate=coordinate)
