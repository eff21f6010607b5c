"""UniPC."""

from typing import Any, Literal

from jaxdiff import checks
from jaxdiff.arithmetic import namespace
from jaxdiff.processes import Process
from jaxdiff.solvers import integrals
from jaxdiff.solvers.adams import adams
from jaxdiff.solvers.tableau import Grid, Tableau, check_arguments


def uni_pc(
    process: Process,
    times: Grid,
    *,
    order: int = 2,
    variant: Literal["bh1", "bh2"] = "bh2",
    lower_order: bool = True,
) -> Tableau:
    """UniPC in data prediction: a multistep predictor of order `order`, and a corrector of one order more.

    A step costs one evaluation. Both are `solvers.adams` methods on the integral of x0. They are exact except where
    exactly two estimates are used. There the published method weighs the difference of the two by `B(h)/2`, where h is
    the step in half the log-SNR and

        B(h) = h ("bh1")        B(h) = 1 - e^{-h} ("bh2")

    The order of convergence is `order + 1`. With `lower_order` it is `order`, because the last prediction is not
    corrected. Zhao et al. 2023 (arXiv 2302.04867), algorithms 1 and 2.

    Args:
      times: `[steps + 1]`, decreasing; or a number of steps. Uniform log-SNR is a good choice.
      order: the order of the predictor, at least 1.
      variant: "bh1" or "bh2". The authors choose "bh2" from 10 steps on. `exponential(corrector_order=order + 1)` is
        exact throughout.
      lower_order: lower the order of the prediction by at most one towards the end of the grid, and on steps much
        longer than those before them (see `exponential`). False gives the published method.

    Raises:
      ValueError: `times` is not a valid grid, or an option is not allowed.
    """
    checks.integer("order", order)
    checks.one_of("variant", variant, ("bh1", "bh2"))
    process, times = check_arguments(process, times)
    xp, integral = namespace(times), integrals.data(process, times)
    l, alpha = integral.position, process.alpha(times)[1:]
    finite = xp.isfinite(l[1:] - l[:-1])
    h = xp.where(finite, l[1:], 1.0) - xp.where(finite, l[:-1], 0.0)
    half = alpha * (h if variant == "bh1" else -xp.expm1(-h)) / 2

    def published(moments: Any) -> Any:
        return moments if moments.shape[-1] != 2 else xp.stack([moments[:, 0], half], axis=-1)

    return adams(
        process,
        times,
        integral,
        order=order,
        corrector_order=order + 1,
        lower_order=lower_order,
        approximate=published,
    )
