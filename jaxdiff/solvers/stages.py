"""One-step methods of several stages: the common part of Runge-Kutta and singlestep exponential methods.

Let `F = p x0 + q eps` with constant `(p, q)`, and let `det = alpha q - sigma p`. If F stayed constant, then the
probability-flow ODE would go from time t to time s by

    x_s = keep x_t + move F        keep = det_s / det_t        move = (alpha_t sigma_s - sigma_t alpha_s) / det_t

This is the step of DDIM, whatever `(p, q)`. A method of several stages evaluates F several times within the step. It
reaches each stage, and the end of the step, from the start of the step, with a weighted mean of the F's so far:

    x_j = keep_j x_t + move_j (w_j0 F_0 + ... + w_j,j-1 F_{j-1})        w_j0 + ... + w_j,j-1 = 1
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from jaxdiff import trees
from jaxdiff.arithmetic import namespace
from jaxdiff.processes import Process, Times
from jaxdiff.solvers.tableau import Tableau


class Level(NamedTuple):
    """The scales of data and noise in `x = alpha x0 + sigma eps`; arrays of one shape."""

    alpha: Any
    sigma: Any


def level(process: Process, times: Times) -> Level:
    """The level of a process at `times` (any shape)."""
    return Level(process.alpha(times), process.sigma(times))


def straight(target: tuple[float, float], start: Level, stop: Level) -> tuple[Any, Any]:
    """`(keep, move)` of the step from `start` to `stop` with constant F (see the head of this file)."""
    p, q = target
    before = start.alpha * q - start.sigma * p
    after = stop.alpha * q - stop.sigma * p
    return after / before, (start.alpha * stop.sigma - start.sigma * stop.alpha) / before


def stages(
    process: Process,
    times: Times,
    stage_times: Float[Any, "steps s"],
    weights: Float[Any, "steps s s"],
    target: tuple[float, float],
    *,
    single: Bool[Any, " steps"],
    end: Level | None = None,
    noise: Float[Any, " steps"] | None = None,
) -> Tableau:
    """The tableau of a method with s evaluations per step. It has two points, `(base, point)`, and a history of s.

    Args:
      times: `[steps + 1]`.
      stage_times: the times of the evaluations; the first is the start of the step. All must be finite.
      weights: `weights[:, j]` are the weights at stage j + 1, and the last ones at the end of the step; the oldest
        estimate comes first.
      target: `(p, q)` of F.
      single: the steps that use their first evaluation only. The other evaluations of such a step are left out; with
        traced times they are made at the base and have no effect.
      end: the level where the deterministic part of each step ends; by default that of `times[1:]`.
      noise: the noise at the end of each step, or None for a deterministic method.
    """
    xp, (steps, count) = namespace(times), stage_times.shape
    start, end = level(process, times[:-1]), level(process, times[1:]) if end is None else end
    zero, one = xp.zeros(steps), xp.ones(steps)
    base = xp.stack([one] + [zero] * (1 + count), axis=-1)

    rows = []
    for j in range(count):
        keep, move = straight(target, start, end if j == count - 1 else level(process, stage_times[:, j + 1]))
        newest_first = [move * weights[:, j, m] for m in range(j, -1, -1)] + [zero] * (count - 1 - j)
        point = xp.stack([keep, zero, *newest_first], axis=-1)
        rows.append([base if j < count - 1 else point, point])
    table = xp.stack([xp.stack(pair, axis=1) for pair in rows], axis=1)  # [steps, s, 2, 2 + s]

    keep, move = straight(target, start, end)
    made = np.ones((steps, count), bool)
    alone = xp.asarray(single)[:, None]
    if trees.traced(times):
        late = xp.stack([keep, *[zero] * count, move], axis=-1)  # the first estimate is now the oldest of the history
        only = xp.stack([base] * (count - 1) + [late], axis=1)
        table = xp.where(alone[..., None, None], only[:, :, None], table)
        stage_times = xp.where(alone, times[:-1, None], stage_times)
    else:
        early = xp.stack([keep, zero, move] + [zero] * (count - 1), axis=-1)
        table[single, 0] = early[single, None]
        made[single, 1:] = False

    drawn = xp.zeros((steps, count, 2, 0))
    if noise is not None:
        arrives = np.arange(count) == (np.where(made.all(axis=1), count - 1, 0))[:, None]
        drawn = (xp.asarray(noise)[:, None] * arrives)[..., None, None] * xp.ones((1, 1, 2, 1))
    kept = np.flatnonzero(made)
    first = xp.stack([base[:1]] * 2, axis=1)
    state = xp.concatenate([first, table.reshape(steps * count, 2, 2 + count)[kept]])
    drawn = drawn.reshape(steps * count, 2, drawn.shape[-1])[kept]
    return Tableau(
        process,
        times=stage_times.reshape(steps * count)[kept],
        state=state,
        noise=xp.concatenate([xp.zeros((1, 2, drawn.shape[-1])), drawn]),
        history_target=xp.ones((len(kept), 1)) * xp.asarray([target]),
    )
