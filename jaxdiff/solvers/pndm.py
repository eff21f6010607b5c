"""PNDM, and PLMS of latent diffusion."""

from typing import Any, Literal

import numpy as np

from jaxdiff import checks, trees
from jaxdiff.arithmetic import namespace
from jaxdiff.processes import Process
from jaxdiff.solvers.deis import ipndm
from jaxdiff.solvers.tableau import Grid, Tableau, check_arguments


def pndm(process: Process, times: Grid, *, warm_up: Literal["runge_kutta", "heun"] = "runge_kutta") -> Tableau:
    """PNDM: the linear multistep method of order four on the step of DDIM, after a warm-up of several evaluations.

    All parts use the step of DDIM in place of the straight line of the classical methods:

        phi(x, eps; t, s) = alpha_s/alpha_t x + (sigma_s - alpha_s sigma_t/alpha_t) eps

    The first three steps are pseudo Runge-Kutta steps (F-PNDM). From t to s, with m half-way between them in time,

        e1 = eps(x, t)        e2 = eps(phi(x, e1; t, m), m)        e3 = eps(phi(x, e2; t, m), m)
        e4 = eps(phi(x, e3; t, s), s)        x_s = phi(x, (e1 + 2 e2 + 2 e3 + e4)/6; t, s)

    All later steps use the estimates e_0, e_1, ... at the last four points of the grid:

        x_s = phi(x, (55 e_0 - 59 e_1 + 37 e_2 - 9 e_3)/24; t, s)

    Liu et al. 2022 (arXiv 2202.09778), section 3.3 and algorithm 2. "PLMS" of latent diffusion begins with one step of
    Heun's method instead of the three:

        x_s = phi(x, (e1 + e2)/2; t, s)        e2 = eps(phi(x, e1; t, s), s)

    `ipndm` begins without extra evaluations. The order of convergence is that of `ipndm`: 4 on grids that are even in
    `sigma/alpha`, 2 on others.

    Args:
      times: `[steps + 1]`, decreasing; or a number of steps.
      warm_up: "runge_kutta" (`steps + 9` evaluations if there are three steps or more) or "heun" (`steps + 1`). The
        warm-up never includes a step to no noise, because its last estimate would be evaluated there.

    Raises:
      ValueError: `times` is not a valid grid or begins without signal, or `warm_up` is unknown.
    """
    process, times = check_arguments(process, times, signal=True)
    checks.one_of("warm_up", warm_up, ("runge_kutta", "heun"))
    xp, steps = namespace(times), len(times) - 1
    plain = ipndm(process, times, order=4)  # raises the error for grids that begin without signal
    clean = trees.traced(times) or float(process.sigma(times[-1])) == 0.0  # a traced grid may end so
    per_step, warm = (4, min(3, steps - clean)) if warm_up == "runge_kutta" else (2, min(1, steps - clean))

    # Columns: base, point, history. When the multistep method begins, the first estimates of the warm-up's steps are
    # `per_step`, `2 per_step`, ... evaluations old.
    history = 4 + (per_step - 1) * warm
    columns = np.eye(2 + history)
    base, point, h = columns[0], columns[1], columns[2:]
    t, s = times[:warm], times[1 : warm + 1]
    m = (t + s) / 2

    def reach(end: Any, eps: Any) -> Any:
        keep = process.alpha(end) / process.alpha(t)
        move = process.sigma(end) - keep * process.sigma(t)
        return keep[:, None] * base[None] + move[:, None] * eps[None]

    if warm_up == "runge_kutta":
        stages, stage_times = [reach(m, h[0]), reach(m, h[0]), reach(s, h[0])], [t, m, m, s]
        arrive = reach(s, (h[3] + 2 * h[2] + 2 * h[1] + h[0]) / 6)
    else:
        stages, stage_times = [reach(s, h[0])], [t, s]
        arrive = reach(s, (h[1] + h[0]) / 2)
    stay = base[None] * xp.ones((warm, 1))
    begin = xp.concatenate([base[None], arrive])[:warm]
    rows = [xp.stack([begin, begin], axis=1), *(xp.stack([stay, stage], axis=1) for stage in stages)]
    state = xp.stack(rows, axis=1).reshape(per_step * warm, 2, 2 + history)

    # From here on a step makes one evaluation.
    tail = [arrive[-1] if warm else base * xp.ones(1)]
    for i in range(warm + 1, steps + 1):
        after = i - warm  # evaluations since the warm-up, in which the first estimate of a step is its oldest
        row = plain.state[i, 0, 0] * point
        for j in range(min(i, 4)):
            place = j if j < after else after + per_step * (j - after) + per_step - 1
            row = row + plain.state[i, 0, 1 + j] * h[place]
        tail.append(row)
    state = xp.concatenate([state, xp.stack([xp.stack(tail)] * 2, axis=1)])
    where = xp.concatenate([xp.stack(stage_times, axis=1).reshape(per_step * warm), times[warm:-1]])
    history_target = xp.ones((len(where), 1)) * xp.asarray([[0.0, 1.0]])
    return Tableau(process, where, state, xp.zeros((len(state), 2, 0)), history_target)
