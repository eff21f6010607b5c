"""Adams methods: multistep predictors and correctors for any of the integrals in `solvers.integrals`.

A predictor of order q integrates the polynomial through the last q estimates; a step costs one evaluation. A corrector
then repeats the step with a polynomial that also goes through the estimate at the end of the step. This costs no
evaluation of its own, because the next step needs that estimate in any case.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from jaxdiff.arithmetic import namespace
from jaxdiff.checks import integer
from jaxdiff.processes import Process, Times
from jaxdiff.solvers import quadrature
from jaxdiff.solvers.integrals import Integral
from jaxdiff.solvers.tableau import Tableau, one_point

# Weights of mixed sign multiply errors by `sum |w| / |sum w|`. Float32's rounding stays invisible up to this factor.
_MOST_AMPLIFICATION = 100.0
# With `lower_order` the factor may exceed that of an even step, `2^q - 1`, by this much.
_MOST_OVER_EVEN_STEPS = 1.2

# A published method's replacement for the exact moments `[steps, q]`.
Approximation = Callable[[Any], Any]


def exact(moments: Any) -> Any:
    """The moments unchanged."""
    return moments


def weights(
    integral: Integral, order: int, *, ahead: int = 0, lower_order: bool = False, approximate: Approximation = exact
) -> Any:
    """The weight of each estimate in `int kernel P du`, for every step of a grid.

    `P` is the polynomial through the last `order` estimates. Fewer estimates are used in three cases:

    - On the first steps there are fewer.
    - On a step from or to an infinite position (no signal or no noise) a polynomial has no limit. The newest estimate
      is used alone.
    - A step may be much longer than those before it, as the last one of a Karras grid of hundreds. The weights are then
      large, and would make float32's rounding visible.

    Args:
      integral: the integral to approximate.
      order: the number of estimates.
      ahead: 0 for a predictor, whose newest estimate is at the start of the step; 1 for a corrector, at the end.
      lower_order: use fewer estimates in two more cases (see `exponential`).
      approximate: changes the moments of each order before the weights are made.

    Returns:
      The weights, `[steps, order]`, those of the newest estimate first.
    """
    u = integral.position
    xp, steps = namespace(u), len(u) - 1
    index = np.arange(steps)
    allowed = index + 1 + ahead
    if lower_order:  # by one at most: a few steps of order q - 1 at the end leave a method of order q
        allowed = np.minimum(allowed, np.maximum(steps - index, order - 1))
    finite = xp.isfinite(u)
    known = xp.where(finite, u, 0.0)  # infinities would make derivatives NaN
    result = xp.concatenate([integral.moments(1), xp.zeros((steps, order - 1))], axis=1)
    for q in range(2, order + 1):
        usable = (allowed >= q) & finite[1:] & finite[:-1] & finite[np.maximum(index + ahead + 1 - q, 0)]
        step = xp.where(usable, known[1:] - known[:-1], 1.0)
        progress = [known[np.maximum(index + ahead - j, 0)] - known[:-1] for j in range(q)]
        nodes = xp.stack(progress, axis=1) / step[:, None]
        nodes = xp.where(usable[:, None], 1 - nodes if integral.backward else nodes, -xp.arange(float(q)))
        moments = xp.where(usable[:, None], integral.moments(q), 1.0)
        through = quadrature.interpolation_weights(xp, nodes, approximate(moments))
        most = min(_MOST_AMPLIFICATION, _MOST_OVER_EVEN_STEPS * (2**q - 1)) if lower_order else _MOST_AMPLIFICATION
        usable &= xp.sum(xp.abs(through), axis=1) <= most * xp.abs(xp.sum(through, axis=1))
        through = xp.concatenate([through, xp.zeros((steps, order - q))], axis=1)
        result = xp.where(usable[:, None], through, result)
    return result


def adams(
    process: Process,
    times: Times,
    integral: Integral,
    *,
    order: int,
    corrector_order: int = 0,
    corrector: Integral | None = None,
    lower_order: bool = True,
    approximate: Approximation = exact,
) -> Tableau:
    """The tableau of a predictor of order `order`, with a corrector unless `corrector_order` is 0.

    The corrector approximates `corrector`, the same integral in another variable, or `integral` if that is None. With a
    corrector there are two points. `base` is the corrected x at the start of the step, and the denoiser is evaluated at
    `point`, the prediction. The correction of a noisy step keeps the noise of the step, which is the difference between
    `point` and the noiseless prediction.
    """
    integer("order", order)
    integer("corrector_order", corrector_order, least=0)
    predict = weights(integral, order, lower_order=lower_order, approximate=approximate)
    if not corrector_order:
        return one_point(process, times, integral.decay, predict, integral.noise, integral.target)

    correct = weights(corrector or integral, corrector_order, ahead=1, approximate=approximate)
    xp, steps, stochastic = namespace(times), len(times) - 1, integral.noise is not None
    history = max(order + stochastic, corrector_order)

    def wide(columns: Any, before: int = 0) -> Any:
        """The columns as coefficients of (base, point, history), without the `before` newest estimates."""
        after = history - before - columns.shape[1]
        return xp.concatenate([xp.zeros((steps, 2 + before)), columns, xp.zeros((steps, after))], axis=1)

    base, point = (row[None] * xp.ones((steps, 1)) for row in np.eye(2, 2 + history))
    decay = integral.decay[:, None]
    corrected = decay * base + wide(correct)
    if stochastic:
        corrected = corrected + point - decay * base - wide(predict, before=1)
    # Row i + 1 begins with the correction of step i - 1; the first step corrects nothing.
    begin = xp.concatenate([base[:1], corrected[:-1]])
    arrive = decay * begin + wide(predict)
    start = xp.stack([base[:1], base[:1]], axis=1)
    noise = xp.zeros((steps + 1, 2, 0))
    if stochastic:
        fresh = xp.concatenate([xp.zeros(1), integral.noise])
        noise = xp.stack([0 * fresh, fresh], axis=1)[..., None]
    return Tableau(
        process,
        times=times[:-1],
        state=xp.concatenate([start, xp.stack([begin, arrive], axis=1)]),
        noise=noise,
        history_target=xp.ones((steps, 1)) * xp.asarray([integral.target]),
    )
