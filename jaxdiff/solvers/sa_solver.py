"""SA-Solver."""

from jaxdiff.processes import Process, Times
from jaxdiff.solvers.exponential import exponential
from jaxdiff.solvers.tableau import Tableau


def sa_solver(
    process: Process,
    times: Times,
    *,
    predictor_order: int = 3,
    corrector_order: int = 4,
    tau: float = 1.0,
    lower_order: bool = True,
) -> Tableau:
    """SA-Solver: stochastic Adams predictor and corrector in data prediction, which share the noise of their step.

        x_s = sigma_s/sigma_t e^{-tau^2 h} x_t + (1 + tau^2) alpha_s int e^{(1 + tau^2)(l - l_s)} x0(l) dl
            + sigma_s sqrt(1 - e^{-2 tau^2 h}) z

    Xue et al. 2023 (arXiv 2309.05019), equations 14 and 17, with constant tau. One evaluation a step. It is
    `exponential` with data prediction and a corrector. (The authors' code, and those made after it, weigh the
    difference of
    two estimates otherwise where there are just two: by half of `(1 + tau^2) h`, which is not the paper's integral.)

    Args:
      times: `[steps + 1]`, decreasing.
      predictor_order: how many estimates the predictor uses, at least 1.
      corrector_order: how many the corrector uses, the new one among them; 0 for no corrector.
      tau: how much noise is put back; 1 for the reverse SDE.
      lower_order: lower the order of the prediction where the full one is not lower_order: towards the end, by one at most,
        and on steps much longer than those before them; False is as published.

    Raises:
      ValueError: a grid that is not one, or an argument that is not allowed.
    """
    return exponential(
        process, times, order=predictor_order, tau=tau, corrector_order=corrector_order, lower_order=lower_order
    )
