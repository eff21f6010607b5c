"""Adams-Bashforth methods in noise prediction: DEIS, LMS and iPNDM. They differ in what eps is a polynomial of."""

from typing import Literal

from jaxdiff.processes import Process, Times
from jaxdiff.solvers import integrals
from jaxdiff.solvers.adams import adams
from jaxdiff.solvers.tableau import Tableau, check_arguments


def deis(
    process: Process,
    times: Times,
    *,
    order: int = 3,
    coordinate: Literal["log_snr", "sigma", "time"] = "log_snr",
    lower_order: bool = True,
) -> Tableau:
    """DEIS: the probability-flow ODE in `x/alpha`, with eps the polynomial through the last `order` estimates.

        x_s = alpha_s/alpha_t x_t + alpha_s int eps d(sigma/alpha)

    One evaluation a step. Zhang & Chen 2023 (arXiv 2204.13902), propositions 1 and 3; where the paper counts the degree
    of the polynomial (tAB3), this counts its points (4).

    Args:
      times: `[steps + 1]`, decreasing.
      order: how many estimates are used, at least 1; the order of convergence.
      coordinate: what eps is a polynomial of: "log_snr", "sigma" (that is `sigma/alpha`: the paper's rhoAB) or "time"
        (its tAB).
      lower_order: lower the order where the full one is not lower_order: towards the end, by one at most, and on steps much
        longer than those before them; False is as published.

    Raises:
      ValueError: a grid that is not one or that begins without signal, or an argument that is not allowed.
    """
    process, times = check_arguments(process, times)
    if coordinate not in ("log_snr", "sigma", "time"):
        raise ValueError(f"coordinate = {coordinate!r}; allowed are 'log_snr', 'sigma' and 'time'")
    integral = integrals.noise(process, times, variable=coordinate)
    return adams(process, times, integral, order=order, lower_order=lower_order)


def lms(process: Process, times: Times, *, order: int = 4) -> Tableau:
    """The linear multistep method of k-diffusion: Adams-Bashforth in `sigma/alpha`, with the exact weights of an uneven
    grid.

    It is `deis` with the coordinate "sigma", to the last step in full order.
    """
    return deis(process, times, order=order, coordinate="sigma", lower_order=False)


def ipndm(process: Process, times: Times, *, order: int = 4) -> Tableau:
    """iPNDM: DDIM's step with, for eps, Adams-Bashforth's combination for even steps whatever the grid.

        x_s = alpha_s/alpha_t x_t + (sigma_s - alpha_s sigma_t/alpha_t) (55 eps_0 - 59 eps_1 + 37 eps_2 - 9 eps_3)/24

    warmed up by `eps_0`, `(3 eps_0 - eps_1)/2` and `(23 eps_0 - 16 eps_1 + 5 eps_2)/12`. Liu et al. 2022 (PNDM, arXiv
    2202.09778), equation 12; Zhang & Chen 2023 (DEIS, arXiv 2204.13902), for the warming up. On grids even in
    `sigma/alpha` it has order `order`; on others that are smooth 2, since the weights know nothing of them.

    Args:
      times: `[steps + 1]`, decreasing.
      order: how many estimates are used, at least 1; 4 in the papers.

    Raises:
      ValueError: a grid that is not one or that begins without signal, or `order < 1`.
    """
    process, times = check_arguments(process, times)
    integral = integrals.noise(process, times, variable="index")
    return adams(process, times, integral, order=order, lower_order=False)
