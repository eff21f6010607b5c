"""Heun's method, and EDM's sampler with churn."""

from typing import Any

import jax
import numpy as np

from jaxdiff.arithmetic import namespace
from jaxdiff.processes import Process, log_snr, time_of_log_snr
from jaxdiff.solvers import coordinates
from jaxdiff.solvers.tableau import Tableau, check_arguments


def heun(
    process: Process,
    times: Any,
    *,
    coordinate: coordinates.Name = "sigma",
    s_churn: float = 0.0,
    s_min: float = 0.0,
    s_max: float = np.inf,
    s_noise: float = 1.0,
) -> Tableau:
    """Heun's second-order method on the probability-flow ODE; with `s_churn > 0`, EDM's stochastic sampler.

    Two evaluations a step from r to r' in a coordinate `z = x/c` (see `solvers.coordinates`) with velocity F:

        z_e = z + (r' - r) F(z, r)        z' = z + (r' - r) (F(z, r) + F(z_e, r'))/2

    but one, Euler's, when the step ends without noise: `2 steps - 1` evaluations then, `2 steps` otherwise. Churn first
    raises the ratio `rho = sigma/alpha`, where `s_min <= rho <= s_max`, to `rho (1 + min(s_churn/steps, sqrt(2) - 1))`
    by noise of standard deviation `s_noise sqrt(rho_hat^2 - rho^2)`. Karras et al. 2022 (arXiv 2206.00364), algorithms
    1 and 2.

    Args:
      times: `[steps + 1]`, decreasing. Traced times should end above `t_clean`: both stages of their last step are
        made.
      coordinate: "sigma", as published, or "flow", which also starts where no signal is left, and is the better one on
        variance-preserving processes.
      s_churn, s_min, s_max, s_noise: as in the paper.

    Raises:
      ValueError: a grid that is not one, an unknown coordinate or one that is infinite on the grid, a negative number.
    """
    process, times = check_arguments(process, times)
    for name, value in (("s_churn", s_churn), ("s_min", s_min), ("s_max", s_max), ("s_noise", s_noise)):
        if not value >= 0:
            raise ValueError(f"{name} = {value}; allowed are numbers of at least 0")
    xp, steps = namespace(times), len(times) - 1
    traced = isinstance(times, jax.core.Tracer)
    start, stop = times[:-1], times[1:]
    coordinates.coordinate(process, start, coordinate)  # refuses a singular start before anything divides by it
    raised, lift, churn = start, xp.ones(steps), xp.zeros(steps)
    if s_churn and traced:
        raise ValueError(f"s_churn = {s_churn} needs times that are not being traced")
    if s_churn:
        rho = np.exp(-log_snr(process, start) / 2)
        raisable = (rho >= s_min) & (rho <= s_max) & np.isfinite(rho)  # nothing is noisier than no signal
        factor = np.where(raisable, 1 + min(s_churn / steps, np.sqrt(2) - 1), 1.0)
        rho = np.where(raisable, rho, 0.0)
        louder = np.where(raisable, log_snr(process, start) - 2 * np.log(factor), 0.0)
        raised = np.where(raisable, time_of_log_snr(process, louder), start)
        lift = np.where(raisable, process.alpha(raised), 1.0) / np.where(raisable, process.alpha(start), 1.0)
        churn = s_noise * process.alpha(raised) * rho * np.sqrt(factor**2 - 1)

    begin = coordinates.coordinate(process, raised, coordinate)
    end = coordinates.coordinate(process, stop, coordinate)
    keep, move = end.scale / begin.scale, end.scale * (end.variable - begin.variable)
    zero, one = xp.zeros(steps), xp.ones(steps)
    # Columns: base, point, H0 (newest), H1. The row that arrives at a point also makes the next step's churn there.
    predict = _stack(xp, [[one, zero, zero, zero], [keep, zero, move, zero]])
    arrive = _stack(xp, 2 * [[keep, zero, move / 2, move / 2]])
    finish = _stack(xp, 2 * [[keep, zero, move, zero]])

    clean = not traced and float(process.sigma(times[-1])) == 0.0
    lifted = xp.concatenate([lift[1:], xp.ones(1)])[:, None, None]
    pairs = xp.stack([predict, lifted * arrive], axis=1).reshape(2 * steps, 2, 4)
    first = lift[0] * xp.asarray([[[1.0, 0.0, 0.0, 0.0]] * 2])
    state = xp.concatenate([first, pairs[: 2 * steps - 2], finish[-1:]] if clean else [first, pairs])
    asked = xp.stack([raised, stop], axis=1).reshape(2 * steps)[: 2 * steps - clean]
    noise = xp.zeros((len(state), 2, 0))
    if s_churn:
        noise = np.zeros((len(state), 2, 1))
        noise[: 2 * steps : 2] = churn[:, None, None]
    remember = xp.ones((len(asked), 1)) * xp.asarray(begin.row)
    return Tableau(process, asked, state, noise, remember)


def _stack(xp: Any, rows: list[list[Any]]) -> Any:
    """`[steps, r, r + K]` from r rows of r + K columns `[steps]`."""
    return xp.stack([xp.stack(row, axis=-1) for row in rows], axis=-2)
