"""Multistep DPM-Solver++."""

from typing import Any, Literal

import numpy as np

from jaxdiff import checks
from jaxdiff.processes import Process
from jaxdiff.solvers import integrals
from jaxdiff.solvers.adams import adams, exact
from jaxdiff.solvers.tableau import Grid, Tableau, check_arguments


def dpm_solver_pp(
    process: Process,
    times: Grid,
    *,
    order: int = 2,
    variant: Literal["exact", "midpoint", "heun"] = "exact",
    tau: float = 0.0,
    lower_order: bool = True,
) -> Tableau:
    """Multistep DPM-Solver++ in data prediction, with one evaluation per step.

    Order 1 is DDIM; orders 2 and 3 are called "2M" and "3M". With half the log-SNR l, the exact step is

        x_s = sigma_s/sigma_t x_t + alpha_s int_{l_t}^{l_s} e^{l - l_s} x0(l) dl

    and x0(l) is replaced by the polynomial through the last `order` estimates. Lu et al. 2022 (arXiv 2211.01095), and
    its SDE form with `tau = 1`.

    Args:
      times: `[steps + 1]`, decreasing; or a number of steps. Uniform log-SNR is a good choice.
      order: 1, 2 or 3. `exponential` takes any order.
      variant: "exact" integrates the polynomial exactly and converges with order 1, 2 or 3. "midpoint" and "heun" are
        the forms that are commonly published. In order 2, "midpoint" evaluates the polynomial at the middle of the step
        and "heun" is exact. In order 3, both halve the quadratic term, and converge with order 2 only.
      tau: the level of the noise that is put back; 0 for the ODE. (What others call eta is often `tau^2`.) With noise
        and steps of 1 or more in l, "midpoint" keeps the spread of the samples better (docs/solvers.md).
      lower_order: lower the order by at most one towards the end of the grid, and on steps much longer than those
        before them (see `exponential`). False gives the published method.

    Raises:
      ValueError: `times` is not a valid grid, or an option is not allowed.
    """
    checks.integer("order", order, most=3)
    checks.one_of("variant", variant, ("exact", "midpoint", "heun"))
    process, times = check_arguments(process, times)

    def published(moments: Any) -> Any:
        if moments.shape[-1] == 2:
            return moments[..., :1] * np.array([1.0, 0.5]) if variant == "midpoint" else moments
        return moments * np.array([1.0, 1.0, 0.5])

    return adams(
        process,
        times,
        integrals.data(process, times, tau),
        order=order,
        lower_order=lower_order,
        approximate=exact if variant == "exact" else published,
    )
