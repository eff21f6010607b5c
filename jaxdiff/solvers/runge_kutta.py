"""Explicit Runge-Kutta methods on the probability-flow ODE."""

import dataclasses
from typing import Any, Literal

import numpy as np

from jaxdiff import checks
from jaxdiff.arithmetic import namespace
from jaxdiff.processes import Process, time_of_log_snr
from jaxdiff.solvers import coordinates
from jaxdiff.solvers.stages import level, stages
from jaxdiff.solvers.tableau import Grid, Tableau, check_arguments


@dataclasses.dataclass(frozen=True)
class Butcher:
    """The table of an explicit Runge-Kutta method of s stages.

    For a step of length h from z at r, stage i evaluates `F_i` at the place `r + c_i h` and the point z_i:

        z_i = z + h sum_j a_ij F_j        z' = z + h sum_i b_i F_i

    Attributes:
      a: `[s, s]`, zero on and above the diagonal.
      b: `[s]`, of sum 1.
      c: `[s]`, the row sums of `a`: first 0, then numbers above 0 and at most 1.
    """

    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    c: tuple[float, ...]


HEUN = Butcher(((0, 0), (1, 0)), (1 / 2, 1 / 2), (0, 1))  # order 2
MIDPOINT = Butcher(((0, 0), (1 / 2, 0)), (0, 1), (0, 1 / 2))  # order 2
RALSTON = Butcher(((0, 0), (2 / 3, 0)), (1 / 4, 3 / 4), (0, 2 / 3))  # order 2, with the least error bound
KUTTA3 = Butcher(((0, 0, 0), (1 / 2, 0, 0), (-1, 2, 0)), (1 / 6, 2 / 3, 1 / 6), (0, 1 / 2, 1))  # order 3
RK4 = Butcher(  # order 4
    ((0, 0, 0, 0), (1 / 2, 0, 0, 0), (0, 1 / 2, 0, 0), (0, 0, 1, 0)),
    (1 / 6, 1 / 3, 1 / 3, 1 / 6),
    (0, 1 / 2, 1 / 2, 1),
)
_NAMED = {"heun": HEUN, "midpoint": MIDPOINT, "ralston": RALSTON, "kutta3": KUTTA3, "rk4": RK4}


def runge_kutta(
    process: Process,
    times: Grid,
    *,
    butcher: Literal["heun", "midpoint", "ralston", "kutta3", "rk4"] | Butcher = "rk4",
    coordinate: coordinates.Name = "auto",
) -> Tableau:
    """An explicit Runge-Kutta method on the probability-flow ODE `dz/dr = F` (see `solvers.coordinates`).

    A step makes s evaluations. A step that ends without noise is an exception if a stage would be evaluated there
    (`c_i = 1`: Heun, Kutta, RK4): it makes one evaluation and is Euler's. The midpoint rule and Ralston's method make
    all evaluations of such a step, the later ones below the time where it begins, which may be `t_min`.

    Butcher 2016 (Numerical Methods for Ordinary Differential Equations), section 23; for diffusion models Karras et al.
    2022 (arXiv 2206.00364), appendix D.2.

    Args:
      times: `[steps + 1]`, decreasing; or a number of steps.
      butcher: the table of the method: a name, or a `Butcher` of one's own. The tables with a name are HEUN, MIDPOINT,
        RALSTON, KUTTA3 and RK4 of `jaxdiff.solvers`.
      coordinate: the coordinate of the equation: "auto", "sigma" or "flow", as for `heun`.

    Raises:
      TypeError: `butcher` is neither a name nor a Butcher.
      ValueError: `times` is not a valid grid, `butcher` or `coordinate` is unknown, `coordinate` is infinite on the
        grid, or `butcher` is not explicit and consistent.
    """
    process, times = check_arguments(process, times)
    a, b, c = _check(butcher)
    xp, steps = namespace(times), len(times) - 1
    here = coordinates.coordinate(process, times, coordinate)
    # In units of the coordinate's scale, alpha and sigma are linear in the progress of a step.
    alpha, sigma = (side / here.scale for side in level(process, times))
    clean = sigma[1:] <= 0
    stage_times = [times[:-1]]
    for progress in c[1:]:
        if progress == 1:
            stage_times.append(xp.where(clean, times[:-1], times[1:]))
        else:
            signal = (1 - progress) * alpha[:-1] + progress * alpha[1:]
            noise = (1 - progress) * sigma[:-1] + progress * sigma[1:]
            stage_times.append(time_of_log_snr(process, 2 * (xp.log(signal) - xp.log(noise))))
    weights = np.concatenate([a[1:] / c[1:, None], b[None]])
    return stages(
        process,
        times,
        xp.stack(stage_times, axis=1),
        np.broadcast_to(weights, (steps, *weights.shape)),
        here.target,
        single=clean & bool(np.any(c == 1)),
    )


def _check(butcher: Any) -> tuple[Any, Any, Any]:
    """The table in NumPy, after checking that it is explicit and consistent."""
    if isinstance(butcher, str):
        checks.one_of("butcher", butcher, _NAMED)
        butcher = _NAMED[butcher]
    allowed = "names of tables, and Butcher(a, b, c), such as jaxdiff.solvers.RK4"
    checks.require(isinstance(butcher, Butcher), "butcher", butcher, allowed, TypeError)
    try:
        a, b, c = (np.asarray(side, np.float64) for side in (butcher.a, butcher.b, butcher.c))
    except (TypeError, ValueError):
        raise ValueError(checks.message("butcher", butcher, "arrays of numbers [s, s], [s] and [s]")) from None
    good = b.ndim == 1 and a.shape == (len(b), len(b)) and c.shape == b.shape
    checks.require(good, "the shapes of butcher", [a.shape, b.shape, c.shape], "[s, s], [s] and [s]")
    explicit = not np.any(np.triu(a))
    checks.require(explicit, "butcher.a", a.tolist(), "explicit tables, with zeros on and above the diagonal")
    checks.require(np.isclose(b.sum(), 1, rtol=0, atol=1e-12), "butcher.b", b.tolist(), "weights that sum to 1")
    consistent = np.allclose(a.sum(axis=1), c, rtol=0, atol=1e-12)
    checks.require(consistent, "butcher.c", c.tolist(), f"the row sums of butcher.a, {a.sum(axis=1).tolist()}")
    inside = np.all((c[1:] > 0) & (c[1:] <= 1))
    checks.require(inside, "butcher.c", c.tolist(), "0, then numbers above 0 and at most 1")
    return a, b, c
