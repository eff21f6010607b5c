"""Exponential integrators: the linear part of diffusion solved exactly, and a polynomial for the rest."""

from jaxdiff.processes import Process
from jaxdiff.solvers.adams import adams
from jaxdiff.solvers.integrals import Prediction, of_prediction
from jaxdiff.solvers.tableau import Grid, Tableau, check_arguments


def exponential(
    process: Process,
    times: Grid,
    *,
    order: int = 2,
    prediction: Prediction = "data",
    tau: float = 0.0,
    corrector_order: int = 0,
    lower_order: bool = True,
) -> Tableau:
    """The exact multistep method of any order.

    It solves the equation of `solvers.integrals` with the polynomial through the last `order` estimates, integrated
    exactly. A step costs one evaluation. With `tau > 0` each step adds noise, and the marginals stay the same. Members
    of this family are DDIM and DDPM (order 1), DPM-Solver++ (data), DEIS in log-SNR (noise), Adams-Bashforth on
    rectified flow (velocity), UniPC (with `corrector_order = order + 1`) and SA-Solver (data, `tau > 0`).

    The deterministic method (`tau = 0`) converges with order `max(order, corrector_order)`. With both a corrector and
    `lower_order` it converges with order `order`, because the last prediction is not corrected.

    Args:
      times: `[steps + 1]`, decreasing; or a number of steps.
      order: the number of estimates that the polynomial of the prediction goes through, at least 1.
      prediction: the quantity that the polynomial approximates: "data" and "noise" as functions of half the log-SNR,
        "velocity" as a function of `sigma/(alpha + sigma)`.
      tau: the level of the noise that is put back; 0 for the ODE, 1 for the reverse SDE.
      corrector_order: the number of estimates that the polynomial of the corrector goes through, with the one at the
        end of the step; 0 for no corrector.
      lower_order: lower the order of the prediction by two rules. The last `order - 1` steps use at most `order - 1`
        estimates. A step that is much longer than those before it uses only as many estimates as keep the sum of
        the absolute weights within `1.2 (2^q - 1)` times their sum, where `2^q - 1` belongs to q estimates and even
        steps. Without a corrector the order of convergence stays. In log-SNR a step to no noise at all is of order 1 in
        any case.

    Raises:
      TypeError: `process` is not a process.
      ValueError: `times` is not a valid grid, noise prediction starts without signal, or an option is not allowed.
    """
    process, times = check_arguments(process, times, signal=prediction == "noise")
    integral = of_prediction(process, times, prediction, tau)
    return adams(process, times, integral, order=order, corrector_order=corrector_order, lower_order=lower_order)
