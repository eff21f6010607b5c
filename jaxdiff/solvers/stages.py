"""One-step methods of several stages: what Runge-Kutta and singlestep exponential methods have in common.

Let the estimate be remembered as `F = p x0 + q eps` with constant `(p, q)`, and `det = alpha q - sigma p`. While F
stays what it is, the probability-flow ODE goes from t to s by

    x_s = keep x_t + move F        keep = det_s / det_t        move = (alpha_t sigma_s - sigma_t alpha_s) / det_t

which is DDIM's step, whatever the target. A method of several stages asks for more F's inside of the step, and goes from
its base to each of its stages, and to its end, with a weighted mean of those it has in place of one F:

    x_j = keep_j x_t + move_j (w_j0 F_0 + ... + w_j,j-1 F_{j-1})        w_j0 + ... + w_j,j-1 = 1
"""

from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float

from jaxdiff.arithmetic import namespace
from jaxdiff.processes import Process, Times
from jaxdiff.solvers.tableau import Tableau


class Level(NamedTuple):
    """How much of the data and of the noise is left, `x = alpha x0 + sigma eps`; arrays of one shape."""

    alpha: Any
    sigma: Any


def level(process: Process, times: Times) -> Level:
    """The level of a process at `times` (any shape)."""
    return Level(process.alpha(times), process.sigma(times))


def line(target: tuple[float, float], start: Level, stop: Level) -> tuple[Any, Any]:
    """`(keep, move)` of the step from `start` to `stop` along one estimate (formula at the head of this file)."""
    p, q = target
    before = start.alpha * q - start.sigma * p
    after = stop.alpha * q - stop.sigma * p
    return after / before, (start.alpha * stop.sigma - start.sigma * stop.alpha) / before


def stages(
    process: Process,
    times: Times,
    asked: Float[Any, "steps s"],
    weights: Float[Any, "steps s s"],
    target: tuple[float, float],
    *,
    single: Bool[Any, " steps"],
    end: Level | None = None,
    noise: Float[Any, " steps"] | None = None,
) -> Tableau:
    """The tableau of a method with s evaluations a step, in two points, `(base, point)`, and s remembered estimates.

    Args:
      times: `[steps + 1]`.
      asked: where each stage is asked; the first is the start of its step.
      weights: `weights[:, j]` are those of stage j + 1, and the last those of the end of the step, the oldest estimate
        first.
      target: `(p, q)` of what is remembered.
      single: the steps that make do with their first evaluation. Their other stages are left out; with traced times
        they are asked at the base, in vain. Either way `asked` must be finite there.
      end: where the deterministic part of each step ends, if not at `times[1:]`.
      noise: what is added at the end of each step, or None for a deterministic method.
    """
    xp, (steps, count) = namespace(times), asked.shape
    start, end = level(process, times[:-1]), level(process, times[1:]) if end is None else end
    zero, one = xp.zeros(steps), xp.ones(steps)
    base = xp.stack([one] + [zero] * (1 + count), axis=-1)

    rows = []
    for j in range(count):
        keep, move = line(target, start, end if j == count - 1 else level(process, asked[:, j + 1]))
        newest_first = [move * weights[:, j, m] for m in range(j, -1, -1)] + [zero] * (count - 1 - j)
        point = xp.stack([keep, zero, *newest_first], axis=-1)
        rows.append([base if j < count - 1 else point, point])
    table = xp.stack([xp.stack(pair, axis=1) for pair in rows], axis=1)  # [steps, s, 2, 2 + s]

    keep, move = line(target, start, end)
    made = np.ones((steps, count), bool)
    alone = xp.asarray(single)[:, None]
    if isinstance(times, jax.core.Tracer):
        late = xp.stack([keep, *[zero] * count, move], axis=-1)  # the first estimate is the oldest by now
        only = xp.stack([base] * (count - 1) + [late], axis=1)
        table = xp.where(alone[..., None, None], only[:, :, None], table)
        asked = xp.where(alone, times[:-1, None], asked)
    else:
        early = xp.stack([keep, zero, move] + [zero] * (count - 1), axis=-1)
        table[single, 0] = early[single, None]
        made[single, 1:] = False

    drawn = xp.zeros((steps, count, 2, 0))
    if noise is not None:
        arrives = np.arange(count) == (np.where(made.all(axis=1), count - 1, 0))[:, None]
        drawn = (xp.asarray(noise)[:, None] * arrives)[..., None, None] * xp.ones((2, 1))
    kept = np.flatnonzero(made)
    first = xp.stack([base[:1]] * 2, axis=1)
    state = xp.concatenate([first, table.reshape(steps * count, 2, 2 + count)[kept]])
    drawn = drawn.reshape(steps * count, 2, drawn.shape[-1])[kept]
    return Tableau(
        process,
        times=asked.reshape(steps * count)[kept],
        state=state,
        noise=xp.concatenate([xp.zeros((1, 2, drawn.shape[-1])), drawn]),
        history_target=xp.ones((len(kept), 1)) * xp.asarray(target),
    )
