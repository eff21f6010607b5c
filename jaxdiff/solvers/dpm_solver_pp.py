"""DPM-Solver++, multistep."""

from typing import Any, Literal

import numpy as np

from jaxdiff.processes import Process
from jaxdiff.solvers.exponential import adams_bashforth, exponential
from jaxdiff.solvers.tableau import Tableau


def dpm_solver_pp(
    process: Process,
    times: Any,
    *,
    order: int = 2,
    variant: Literal["exact", "midpoint"] = "exact",
    tau: float = 0.0,
    lower_final: bool = True,
) -> Tableau:
    """Multistep DPM-Solver++ of order 1 (DDIM), 2 ("2M") or 3 ("3M"), in data prediction, one evaluation a step.

        x_s = sigma_s/sigma_t x_t + alpha_s int_{l_t}^{l_s} e^{l - l_s} x0(l) dl

    with for x0(l) the polynomial through the last `order` estimates, and `l` half the log-SNR. Lu et al. 2022 (arXiv
    2211.01095); with `tau = 1`, its SDE form.

    Args:
      times: `[steps + 1]`, decreasing. Uniform log-SNR suits it.
      order: 1, 2 or 3.
      variant: "exact" integrates the polynomial exactly and converges with order 1, 2, 3. "midpoint" is what is
        commonly published: of order 2 it takes the polynomial at the middle of the step, and of order 3 it halves the
        quadratic term, which converges with order 2 only.
      tau: how much noise is put back; 0 for the ODE.
      lower_final: lower the order by one on the last step.

    Raises:
      ValueError: a grid that is not one, or an argument that is not allowed.
    """
    if order not in (1, 2, 3):
        raise ValueError(f"order = {order!r}; allowed are 1, 2 and 3 (`exponential` takes any)")
    if variant == "exact":
        return exponential(process, times, order=order, tau=tau, lower_final=lower_final)
    if variant == "midpoint":
        return adams_bashforth(process, times, order, tau, lower_final, _published)
    raise ValueError(f"variant = {variant!r}; allowed are 'exact' and 'midpoint'")


def _published(moments: Any) -> Any:
    """The moments that the published updates use: `(m0, m0/2)` at order 2 and `(m0, m1, m2/2)` at order 3."""
    if moments.shape[-1] == 2:
        return moments[..., :1] * np.array([1.0, 0.5])
    return moments * np.array([1.0, 1.0, 0.5])
