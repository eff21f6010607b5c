"""UniPC."""

from typing import Any, Literal

from jaxdiff.arithmetic import namespace
from jaxdiff.processes import Process, Times
from jaxdiff.solvers import integrals
from jaxdiff.solvers.adams import adams, check_order
from jaxdiff.solvers.tableau import Tableau, check_arguments


def uni_pc(
    process: Process,
    times: Times,
    *,
    order: int = 2,
    variant: Literal["bh1", "bh2"] = "bh2",
    lower_order: bool = True,
) -> Tableau:
    """UniPC in data prediction: a multistep predictor of order `order` and a corrector of one more; one evaluation a
    step.

    Both are `solvers.adams` on the integral of x0, exact but where two estimates are used: there the published method
    weighs their difference by `B(h)/2`, with `B(h) = h` ("bh1") or `1 - e^{-h}` ("bh2"), `h` the step in half log-SNR.
    Zhao et al. 2023 (arXiv 2302.04867), algorithms 1 and 2. The order of convergence is `order + 1`;
    `order` with `lower_order`, since the last prediction is not corrected.

    Args:
      times: `[steps + 1]`, decreasing. Uniform log-SNR suits it.
      order: of the predictor, at least 1.
      variant: "bh1" or "bh2", for which "bh2" is the authors' choice from 10 steps on.
        `exponential(corrector_order=order + 1)` is exact throughout.
      lower_order: lower the order of the prediction where the full one is not lower_order: towards the end, by one at most,
        and on steps much longer than those before them; False is as published.

    Raises:
      ValueError: a grid that is not one, or an argument that is not allowed.
    """
    check_order("order", order)
    if variant not in ("bh1", "bh2"):
        raise ValueError(f"variant = {variant!r}; allowed are 'bh1' and 'bh2'")
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
