"""Explicit Runge-Kutta methods on the probability-flow ODE."""

from typing import Any, NamedTuple

import numpy as np

from jaxdiff.arithmetic import namespace
from jaxdiff.processes import Process, Times, time_of_log_snr
from jaxdiff.solvers import coordinates
from jaxdiff.solvers.stages import level, stages
from jaxdiff.solvers.tableau import Tableau, check_arguments


class Butcher(NamedTuple):
    """An explicit Runge-Kutta method of s stages.

    Stage i is `z_i = z + h sum_j a_ij F_j` at `r + c_i h`, and the step is `z' = z + h sum_i b_i F_i`.

    Attributes:
      a: `[s, s]`, zero on and above the diagonal.
      b: `[s]`, of sum 1.
      c: `[s]`, the row sums of `a`; 0, then above 0 and at most 1.
    """

    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    c: tuple[float, ...]


HEUN = Butcher(((0, 0), (1, 0)), (1 / 2, 1 / 2), (0, 1))  # order 2
MIDPOINT = Butcher(((0, 0), (1 / 2, 0)), (0, 1), (0, 1 / 2))  # order 2
RALSTON = Butcher(((0, 0), (2 / 3, 0)), (1 / 4, 3 / 4), (0, 2 / 3))  # order 2, of the least error bound
KUTTA3 = Butcher(((0, 0, 0), (1 / 2, 0, 0), (-1, 2, 0)), (1 / 6, 2 / 3, 1 / 6), (0, 1 / 2, 1))  # order 3
RK4 = Butcher(  # order 4
    ((0, 0, 0, 0), (1 / 2, 0, 0, 0), (0, 1 / 2, 0, 0), (0, 0, 1, 0)),
    (1 / 6, 1 / 3, 1 / 3, 1 / 6),
    (0, 1 / 2, 1 / 2, 1),
)


def runge_kutta(
    process: Process, times: Times, *, butcher: Butcher = RK4, coordinate: coordinates.Name = "sigma"
) -> Tableau:
    """An explicit Runge-Kutta method on the probability-flow ODE `dz/dr = F` (see `solvers.coordinates`).

    With s stages a step makes s evaluations, but one, Euler's, when it ends without noise and a stage would be asked
    there (`c_i = 1`: Heun, Kutta, RK4). The midpoint rule and Ralston's method make all of them, the later ones below
    the time where the step begins, which may be `t_min`. Butcher 2016 (Numerical Methods for Ordinary Differential
    Equations), section 23; for diffusion models Karras et al. 2022 (arXiv 2206.00364), appendix D.2.

    Args:
      times: `[steps + 1]`, decreasing.
      butcher: the method's table: HEUN, MIDPOINT, RALSTON, KUTTA3 and RK4 of `jaxdiff.solvers`, or another.
      coordinate: "sigma", or "flow", which also starts where no signal is left, and is the better one on
        variance-preserving processes.

    Raises:
      TypeError: `butcher` is not a Butcher.
      ValueError: a grid that is not one, an unknown coordinate or one that is infinite on the grid, a table that is not
        explicit and consistent.
    """
    process, times = check_arguments(process, times)
    a, b, c = _check(butcher)
    xp, steps = namespace(times), len(times) - 1
    here = coordinates.coordinate(process, times, coordinate)
    # In units of the coordinate's scale, alpha and sigma both go straight from one end of a step to the other.
    alpha, sigma = (side / here.scale for side in level(process, times))
    clean = sigma[1:] <= 0
    asked = [times[:-1]]
    for progress in c[1:]:
        if progress == 1:
            asked.append(xp.where(clean, times[:-1], times[1:]))
        else:
            signal = (1 - progress) * alpha[:-1] + progress * alpha[1:]
            noise = (1 - progress) * sigma[:-1] + progress * sigma[1:]
            asked.append(time_of_log_snr(process, 2 * (xp.log(signal) - xp.log(noise))))
    weights = np.concatenate([a[1:] / c[1:, None], b[None]])
    return stages(
        process,
        times,
        xp.stack(asked, axis=1),
        np.broadcast_to(weights, (steps, *weights.shape)),
        here.target,
        single=clean & bool(np.any(c == 1)),
    )


def _check(butcher: Butcher) -> tuple[Any, Any, Any]:
    """The table in NumPy, once it is known to be explicit and consistent."""
    if not isinstance(butcher, Butcher):
        raise TypeError(f"butcher = {butcher!r}; allowed is a Butcher(a, b, c), such as jaxdiff.solvers.RK4")
    try:
        a, b, c = (np.asarray(side, np.float64) for side in butcher)
    except (TypeError, ValueError):
        raise ValueError(f"butcher = {butcher}; allowed are arrays of numbers [s, s], [s] and [s]") from None
    if b.ndim != 1 or a.shape != (len(b), len(b)) or c.shape != b.shape:
        raise ValueError(f"butcher has shapes {a.shape}, {b.shape}, {c.shape}; allowed are [s, s], [s] and [s]")
    if np.any(np.triu(a)):
        raise ValueError(f"butcher.a = {a.tolist()} is implicit; allowed are zeros on and above the diagonal")
    if not np.isclose(b.sum(), 1, rtol=0, atol=1e-12):
        raise ValueError(f"butcher.b = {b.tolist()} sums to {b.sum()}; allowed is a sum of 1")
    if not np.allclose(a.sum(axis=1), c, rtol=0, atol=1e-12):
        raise ValueError(f"butcher.c = {c.tolist()}; allowed are the row sums of butcher.a, {a.sum(axis=1).tolist()}")
    if not np.all((c[1:] > 0) & (c[1:] <= 1)):
        raise ValueError(f"butcher.c = {c.tolist()}; allowed are 0, then numbers above 0 and at most 1")
    return a, b, c
