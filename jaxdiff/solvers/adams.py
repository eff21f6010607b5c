"""Adams methods: multistep predictors, and correctors, of any of the integrals in `solvers.integrals`.

A predictor of order q integrates the polynomial through the last q estimates; one evaluation a step. A corrector then
does the step again with the polynomial that also goes through the estimate at its end, which costs no evaluation: the
denoiser was asked there for the next step in any case.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from jaxdiff.arithmetic import namespace
from jaxdiff.processes import Process, Times
from jaxdiff.solvers import quadrature
from jaxdiff.solvers.integrals import Integral
from jaxdiff.solvers.tableau import Tableau, one_point

# How much larger than their sum the absolute weights may be: what float32 bears, and what is lower_order, in terms of the
# `2^q - 1` of a polynomial that is followed to the end of an even step.
_BEARABLE = 100.0
_STEADY = 1.2

# What a published method puts in place of the exact moments `[steps, q]`.
Approximation = Callable[[Any], Any]


def exact(moments: Any) -> Any:
    """The moments as they are."""
    return moments


def weights(
    integral: Integral, order: int, *, ahead: int = 0, lower_order: bool = False, approximate: Approximation = exact
) -> Any:
    """What each estimate weighs in `int kernel P du`, for every step of a grid.

    `P` is the polynomial through the last `order` estimates. Fewer are used where fewer are, on the first steps; on
    steps from or to an infinite position (no signal, no noise), where a polynomial has no limit and the newest estimate
    stands for all; and where a step is so much longer than those before it (the last of a Karras grid of hundreds) that
    float32's rounding, multiplied by the weights, would be seen.

    Args:
      ahead: 0 for a predictor, whose newest estimate is at the start of the step; 1 for a corrector, at its end.
      lower_order: fewer estimates also towards the end, by one at most (a few steps of order q - 1 leave a method of order
        q), and on steps that would follow the polynomial much further than to the end of an even step.
      approximate: see `Approximation`.

    Returns: `[steps, order]`, the newest estimate first.
    """
    u = integral.position
    xp, steps = namespace(u), len(u) - 1
    index = np.arange(steps)
    allowed = index + 1 + ahead
    if lower_order:
        allowed = np.minimum(allowed, np.maximum(steps - index, order - 1))
    finite = xp.isfinite(u)
    known = xp.where(finite, u, 0.0)  # infinities are kept out of what is differentiated
    result = xp.concatenate([integral.moments(1), xp.zeros((steps, order - 1))], axis=1)
    for q in range(2, order + 1):
        usable = (allowed >= q) & finite[1:] & finite[:-1] & finite[np.maximum(index + ahead + 1 - q, 0)]
        step = xp.where(usable, known[1:] - known[:-1], 1.0)
        progress = [known[np.maximum(index + ahead - j, 0)] - known[:-1] for j in range(q)]
        nodes = xp.stack(progress, axis=1) / step[:, None]
        nodes = xp.where(usable[:, None], 1 - nodes if integral.backward else nodes, -xp.arange(float(q)))
        moments = xp.where(usable[:, None], integral.moments(q), 1.0)
        through = quadrature.interpolation_weights(xp, nodes, approximate(moments))
        bound = min(_BEARABLE, _STEADY * (2**q - 1)) if lower_order else _BEARABLE
        usable &= xp.sum(xp.abs(through), axis=1) <= bound * xp.abs(xp.sum(through, axis=1))
        through = xp.concatenate([through, xp.zeros((steps, order - q))], axis=1)
        result = xp.where(usable[:, None], through, result)
    return result


def check_order(name: str, order: Any, least: int = 1) -> None:
    """Refuses an order that is not an integer of at least `least`."""
    if isinstance(order, bool) or not isinstance(order, int | np.integer) or order < least:
        raise ValueError(f"{name} = {order!r}; allowed are integers of at least {least}")


def adams(
    process: Process,
    times: Times,
    integral: Integral,
    *,
    order: int,
    corrector_order: int = 0,
    lower_order: bool = True,
    approximate: Approximation = exact,
) -> Tableau:
    """The tableau of a predictor of order `order`, and of a corrector if `corrector_order` is not 0.

    With a corrector there are two points, `base`, the corrected x at the start of the step, and `point`, where the
    denoiser is asked. The correction of a noisy step keeps its noise, which is what `point` is beyond the prediction.
    """
    check_order("order", order)
    check_order("corrector_order", corrector_order, least=0)
    predict = weights(integral, order, lower_order=lower_order, approximate=approximate)
    if not corrector_order:
        return one_point(process, times, integral.decay, predict, integral.noise, integral.target)

    correct = weights(integral, corrector_order, ahead=1, approximate=approximate)
    xp, steps, stochastic = namespace(times), len(times) - 1, integral.noise is not None
    history = max(order + stochastic, corrector_order)

    def wide(columns: Any, before: int = 0) -> Any:
        """Over (base, point, H), the first `before` estimates left out."""
        after = history - before - columns.shape[1]
        return xp.concatenate([xp.zeros((steps, 2 + before)), columns, xp.zeros((steps, after))], axis=1)

    base, point = (row * xp.ones((steps, 1)) for row in np.eye(2, 2 + history))
    decay = integral.decay[:, None]
    corrected = decay * base + wide(correct)
    if stochastic:
        corrected = corrected + point - decay * base - wide(predict, before=1)
    # Row i + 1 first corrects the step before; the first has none.
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
        history_target=xp.ones((steps, 1)) * xp.asarray(integral.target),
    )
