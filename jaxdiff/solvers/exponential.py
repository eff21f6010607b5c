"""Exponential integrators: the exact solution of diffusion's linear part, with a polynomial for the rest."""

from jaxdiff.processes import Process, Times
from jaxdiff.solvers.adams import adams
from jaxdiff.solvers.integrals import Prediction, predicted
from jaxdiff.solvers.tableau import Tableau, check_arguments


def exponential(
    process: Process,
    times: Times,
    *,
    order: int = 2,
    prediction: Prediction = "data",
    tau: float = 0.0,
    corrector_order: int = 0,
    lower_order: bool = True,
) -> Tableau:
    """The exact multistep method of any order: the equation of `solvers.integrals`, with the polynomial through the
    last `order` estimates integrated exactly.

    One evaluation a step. The deterministic method (`tau = 0`) converges with order `max(order, corrector_order)`, up
    to `order` where `lower_order` acts on a method with a corrector, since the last prediction is not corrected; with
    `tau > 0` noise is added and the marginals are kept. Members of the family: DDIM and DDPM (order 1), DPM-Solver++
    (data), DEIS in log-SNR (noise), Adams-Bashforth on rectified flow (velocity), UniPC (with `corrector_order = order
    + 1`) and SA-Solver (data, `tau > 0`).

    Args:
      times: `[steps + 1]`, decreasing.
      order: how many estimates the prediction's polynomial goes through, at least 1.
      prediction: what is taken to be a polynomial: "data" and "noise" in half log-SNR, "velocity" in `sigma/(alpha +
        sigma)`.
      tau: how much noise is put back; 0 for the ODE, 1 for the reverse SDE.
      corrector_order: how many estimates the corrector's polynomial goes through, the new one among them; 0 for no
        corrector.
      lower_order: lower the order of the prediction where the full one is not lower_order: towards the end, by one at most, and
        on steps much longer than those before them. The order of convergence stays. In log-SNR a step to no noise at
        all is of order 1 in any case.

    Raises:
      ValueError: a grid that is not one, noise prediction from no signal, `order < 1` or `tau < 0`.
    """
    process, times = check_arguments(process, times)
    integral = predicted(process, times, prediction, tau)
    return adams(process, times, integral, order=order, corrector_order=corrector_order, lower_order=lower_order)
