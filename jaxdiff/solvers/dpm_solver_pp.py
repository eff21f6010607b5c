"""DPM-Solver++, multistep."""

from typing import Any, Literal

import numpy as np

from jaxdiff.processes import Process, Times
from jaxdiff.solvers import integrals
from jaxdiff.solvers.adams import adams, exact
from jaxdiff.solvers.tableau import Tableau, check_arguments


def dpm_solver_pp(
    process: Process,
    times: Times,
    *,
    order: int = 2,
    variant: Literal["exact", "midpoint", "heun"] = "exact",
    tau: float = 0.0,
    lower_order: bool = True,
) -> Tableau:
    """Multistep DPM-Solver++ of order 1 (DDIM), 2 ("2M") or 3 ("3M"), in data prediction, one evaluation a step.

        x_s = sigma_s/sigma_t x_t + alpha_s int_{l_t}^{l_s} e^{l - l_s} x0(l) dl

    with for x0(l) the polynomial through the last `order` estimates, and `l` half the log-SNR. Lu et al. 2022 (arXiv
    2211.01095); with `tau = 1`, its SDE form.

    Args:
      times: `[steps + 1]`, decreasing. Uniform log-SNR suits it.
      order: 1, 2 or 3.
      variant: "exact" integrates the polynomial exactly and converges with order 1, 2, 3. "midpoint" and "heun" are
        what is commonly published: of order 2, "midpoint" takes the polynomial at the middle of the step, and "heun"
        is exact; of order 3 both halve the quadratic term, which converges with order 2 only.
      tau: how much noise is put back; 0 for the ODE. (Some call tau^2 eta.)
      lower_order: lower the order where the full one is not lower_order: towards the end, by one at most, and on steps much
        longer than those before them; False is as published.

    Raises:
      ValueError: a grid that is not one, or an argument that is not allowed.
    """
    if order not in (1, 2, 3):
        raise ValueError(f"order = {order!r}; allowed are 1, 2 and 3 (`exponential` takes any)")
    if variant not in ("exact", "midpoint", "heun"):
        raise ValueError(f"variant = {variant!r}; allowed are 'exact', 'midpoint' and 'heun'")
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
