"""PNDM."""

from typing import Any

import jax
import numpy as np

from jaxdiff.arithmetic import namespace
from jaxdiff.processes import Process
from jaxdiff.solvers.deis import ipndm
from jaxdiff.solvers.tableau import Tableau, check_arguments

_WARM_UP = 3  # steps


def pndm(process: Process, times: Any) -> Tableau:
    """PNDM (F-PNDM): three pseudo Runge-Kutta steps of four evaluations, then the linear multistep method of order
    four.

    Both take DDIM's step, `phi(x, eps; t, s) = alpha_s/alpha_t x + (sigma_s - alpha_s sigma_t/alpha_t) eps`, for the
    straight line of the classical methods. From t to s, with m half-way in time,

        e1 = eps(x, t)        e2 = eps(phi(x, e1; t, m), m)        e3 = eps(phi(x, e2; t, m), m)
        e4 = eps(phi(x, e3; t, s), s)        x_s = phi(x, (e1 + 2 e2 + 2 e3 + e4)/6; t, s)

    and afterwards `x_s = phi(x, (55 e_0 - 59 e_1 + 37 e_2 - 9 e_3)/24; t, s)` with the estimates at the last four
    points of the grid. Liu et al. 2022 (arXiv 2202.09778), section 3.3 and algorithm 2. `ipndm` warms up without the
    extra evaluations. The order of convergence is that of `ipndm`: 4 on grids even in `sigma/alpha`, 2 on others.

    Args:
      times: `[steps + 1]`, decreasing: `steps + 9` evaluations, from three steps on. A step to no noise is not done by
        Runge-Kutta, whose last estimate would be asked there.

    Raises:
      ValueError: a grid that is not one, or that begins without signal.
    """
    process, times = check_arguments(process, times)
    xp, steps = namespace(times), len(times) - 1
    plain = ipndm(process, times, order=4)  # refuses grids without signal at their start
    clean = not isinstance(times, jax.core.Tracer) and float(process.sigma(times[-1])) == 0.0
    warm = min(_WARM_UP, steps - clean)

    t, s = times[:warm], times[1 : warm + 1]
    m = (t + s) / 2

    def phi(end: Any) -> tuple[Any, Any]:
        keep = process.alpha(end) / process.alpha(t)
        return keep, process.sigma(end) - keep * process.sigma(t)

    # Columns: base, point, H. When the multistep method begins, the first estimates of the three Runge-Kutta steps are
    # 4, 8 and 12 evaluations old.
    memory = 4 * max(warm, 1) + 1
    columns = np.eye(2 + memory)
    base, point, h = columns[0], columns[1], columns[2:]

    def reach(end: Any, eps: Any) -> Any:
        keep, move = phi(end)
        return keep[:, None] * base + move[:, None] * eps

    stay = base * xp.ones((warm, 1))
    stages = [reach(m, h[0]), reach(m, h[0]), reach(s, h[0])]
    arrive = reach(s, (h[3] + 2 * h[2] + 2 * h[1] + h[0]) / 6)
    rows = [stay, *stages]  # what each row of a step makes of `point`; the first continues from the step before
    first = xp.concatenate([base[None], arrive])[:warm]
    begin = xp.stack([first, first], axis=1)
    later = [xp.stack([stay, row], axis=1) for row in rows[1:]]
    state = xp.stack([begin, *later], axis=1).reshape(4 * warm, 2, 2 + memory)
    asked = xp.stack([t, m, m, s], axis=1).reshape(4 * warm)

    # From here on one evaluation a step; where H_j is the estimate at the j-th last point of the grid moves on.
    tail = []
    for i in range(warm, steps + 1):
        if i == warm:
            row = arrive[-1] if warm else base * xp.ones(1)
        else:
            after = (
                i - warm
            )  # rows since the Runge-Kutta steps; their first estimates stand at after + 3, after + 7, ...
            old = [j if j < after else after + 4 * (j - after) + 3 for j in range(min(i, 4))]
            coefficients = plain.state[i, 0]
            row = coefficients[0] * point
            for j, place in enumerate(old):
                row = row + coefficients[1 + j] * h[place]
        tail.append(xp.stack([row, row]))
    state = xp.concatenate([state, xp.stack(tail)])
    asked = xp.concatenate([asked, times[warm:-1]])
    remember = xp.ones((len(asked), 1)) * xp.asarray((0.0, 1.0))
    return Tableau(process, asked, state, xp.zeros((len(state), 2, 0)), remember)
