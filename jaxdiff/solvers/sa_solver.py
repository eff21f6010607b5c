"""SA-Solver."""

from typing import Literal

from jaxdiff.processes import Process
from jaxdiff.solvers import integrals
from jaxdiff.solvers.adams import adams
from jaxdiff.solvers.tableau import Grid, Tableau, check_arguments


def sa_solver(
    process: Process,
    times: Grid,
    *,
    predictor_order: int = 2,
    corrector_order: int = 3,
    tau: float = 1.0,
    variable: Literal["index", "log_snr"] = "index",
    lower_order: bool = True,
) -> Tableau:
    """SA-Solver: a stochastic Adams predictor and corrector in data prediction.

    The predictor and the corrector of a step use the same noise z. With half the log-SNR l, both solve

        x_s = sigma_s/sigma_t e^{-tau^2 h} x_t + (1 + tau^2) alpha_s I + sigma_s sqrt(1 - e^{-2 tau^2 h}) z
        I   = int_{l_t}^{l_s} e^{(1 + tau^2)(l - l_s)} x0(l) dl        h = l_s - l_t

    and replace x0(l) by a polynomial through the last estimates. A step costs one evaluation. Xue et al. 2023 (arXiv
    2309.05019), equations 14 and 17, with constant tau.

    The paper takes polynomials in l. Along a noisy path, however, two estimates differ by noise of their own, and this
    difference does not grow with the step as a slope does. A predictor that extrapolates in l over steps of h = 1 or 2,
    as in a Karras grid of ten, gives samples of up to three times the right standard deviation. By default the
    predictor's polynomial is therefore one in the index of the grid's points, as in iPNDM, which weighs the estimates
    alike in every step. The corrector interpolates, in l. The standard deviation of Gaussian data is then right to a
    tenth from ten steps on, on grids that resolve the data, and converges as fast as with l.

    The authors' code, and code made after it, differs from the paper where exactly two estimates are used: it weighs
    their difference by `(1 + tau^2) h/2`.

    Args:
      times: `[steps + 1]`, decreasing; or a number of steps.
      predictor_order: the number of estimates that the predictor uses, at least 1.
      corrector_order: the number of estimates that the corrector uses, with the one at the end of the step; 0 for no
        corrector.
      tau: the level of the noise that is put back; 1 for the reverse SDE.
      variable: the variable of the predictor's polynomial: "index" or "log_snr" (l).
      lower_order: lower the order of the prediction by at most one towards the end of the grid, and on steps much
        longer than those before them (see `exponential`). False with `variable="log_snr"` gives the published method.

    Raises:
      ValueError: `times` is not a valid grid, or an option is not allowed.
    """
    process, times = check_arguments(process, times)
    return adams(
        process,
        times,
        integrals.data(process, times, tau, variable),
        order=predictor_order,
        corrector_order=corrector_order,
        corrector=integrals.data(process, times, tau),
        lower_order=lower_order,
    )
