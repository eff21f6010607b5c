"""SA-Solver."""

from jaxdiff.processes import Process
from jaxdiff.solvers.exponential import exponential
from jaxdiff.solvers.tableau import Grid, Tableau


def sa_solver(
    process: Process,
    times: Grid,
    *,
    predictor_order: int = 3,
    corrector_order: int = 4,
    tau: float = 1.0,
    lower_order: bool = True,
) -> Tableau:
    """SA-Solver: a stochastic Adams predictor and corrector in data prediction.

    The predictor and the corrector of a step use the same noise z. With half the log-SNR l, both solve

        x_s = sigma_s/sigma_t e^{-tau^2 h} x_t + (1 + tau^2) alpha_s I + sigma_s sqrt(1 - e^{-2 tau^2 h}) z
        I   = int_{l_t}^{l_s} e^{(1 + tau^2)(l - l_s)} x0(l) dl        h = l_s - l_t

    A step costs one evaluation. This is `exponential` with data prediction and a corrector. Xue et al. 2023 (arXiv
    2309.05019), equations 14 and 17, with constant tau. The authors' code, and code made after it, differs from the
    paper where exactly two estimates are used: it weighs their difference by `(1 + tau^2) h/2`.

    Args:
      times: `[steps + 1]`, decreasing; or a number of steps.
      predictor_order: the number of estimates that the predictor uses, at least 1.
      corrector_order: the number of estimates that the corrector uses, with the one at the end of the step; 0 for no
        corrector.
      tau: the level of the noise that is put back; 1 for the reverse SDE.
      lower_order: lower the order of the prediction by at most one towards the end of the grid, and on steps much
        longer than those before them (see `exponential`). False gives the published method.

    Raises:
      ValueError: `times` is not a valid grid, or an option is not allowed.
    """
    return exponential(
        process, times, order=predictor_order, tau=tau, corrector_order=corrector_order, lower_order=lower_order
    )
