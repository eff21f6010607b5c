"""Adams-Bashforth methods in noise prediction: DEIS, LMS and iPNDM. They differ in the variable of the polynomial."""

from typing import Literal

from jaxdiff import checks
from jaxdiff.processes import Process
from jaxdiff.solvers import integrals
from jaxdiff.solvers.adams import adams
from jaxdiff.solvers.tableau import Grid, Tableau, check_arguments


def deis(
    process: Process,
    times: Grid,
    *,
    order: int = 3,
    coordinate: Literal["log_snr", "sigma", "time"] = "log_snr",
    lower_order: bool = True,
) -> Tableau:
    """DEIS: the probability-flow ODE in `x/alpha`, where eps is a polynomial through the last `order` estimates.

        x_s = alpha_s/alpha_t x_t + alpha_s int eps d(sigma/alpha)

    A step costs one evaluation. Zhang & Chen 2023 (arXiv 2204.13902), propositions 1 and 3. The paper names a method by
    the degree of the polynomial (tAB3); `order` is the number of its points (4).

    Args:
      times: `[steps + 1]`, decreasing; or a number of steps.
      order: the number of estimates that are used, at least 1; also the order of convergence.
      coordinate: the variable of the polynomial: "log_snr", "sigma" (for `sigma/alpha`, the paper's rhoAB) or "time"
        (the paper's tAB).
      lower_order: lower the order by at most one towards the end of the grid, and on steps much longer than those
        before them (see `exponential`). False gives the published method.

    Raises:
      ValueError: `times` is not a valid grid or begins without signal, or an option is not allowed.
    """
    process, times = check_arguments(process, times, signal=True)
    checks.one_of("coordinate", coordinate, ("log_snr", "sigma", "time"))
    integral = integrals.noise(process, times, variable=coordinate)
    return adams(process, times, integral, order=order, lower_order=lower_order)


def lms(process: Process, times: Grid, *, order: int = 4) -> Tableau:
    """k-diffusion's linear multistep method: Adams-Bashforth in `sigma/alpha`, with the exact weights of uneven grids.

    It is `deis` with the coordinate "sigma", in full order to the last step.

    Args:
      times: `[steps + 1]`, decreasing; or a number of steps.
      order: the number of estimates that are used, at least 1.

    Raises:
      ValueError: `times` is not a valid grid or begins without signal, or `order < 1`.
    """
    return deis(process, times, order=order, coordinate="sigma", lower_order=False)


def ipndm(process: Process, times: Grid, *, order: int = 4) -> Tableau:
    """iPNDM: the step of DDIM, with Adams-Bashforth's combination for even steps in place of eps, on any grid.

        x_s = alpha_s/alpha_t x_t + (sigma_s - alpha_s sigma_t/alpha_t) e
        e   = (55 eps_0 - 59 eps_1 + 37 eps_2 - 9 eps_3)/24

    The first three steps use `eps_0`, `(3 eps_0 - eps_1)/2` and `(23 eps_0 - 16 eps_1 + 5 eps_2)/12` for e. The method
    has order `order` on grids that are even in `sigma/alpha`. On other smooth grids it has order 2, because the
    weights do not depend on the grid. Liu et al. 2022 (PNDM, arXiv 2202.09778), equation 12; Zhang & Chen 2023 (DEIS,
    arXiv 2204.13902), for the first steps.

    Args:
      times: `[steps + 1]`, decreasing; or a number of steps.
      order: the number of estimates that are used, at least 1; 4 in the papers.

    Raises:
      ValueError: `times` is not a valid grid or begins without signal, or `order < 1`.
    """
    process, times = check_arguments(process, times, signal=True)
    integral = integrals.noise(process, times, variable="index")
    return adams(process, times, integral, order=order, lower_order=False)
