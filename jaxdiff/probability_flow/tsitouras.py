"""One step of Tsitouras' Runge-Kutta pair of orders 5 and 4.

    k_i = rate(v + c_i h, y + h sum_{j<i} a_ij k_j)
    y'  = y + h sum_j b_j k_j
    error = h sum_j (b_j - b*_j) k_j

The seventh stage is evaluated at y', and is the first stage of the next step: six evaluations per step. Tsitouras 2011,
"Runge-Kutta pairs of order 5(4) satisfying only the first column simplifying assumption", table 1.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxdiff import loops

STAGES = 6  # the evaluations of a step

C = np.array([0, 0.161, 0.327, 0.9, 0.9800255409045097, 1, 1])
A = np.zeros((7, 7))
A[1, :1] = [0.161]
A[2, :2] = [-0.008480655492356989, 0.335480655492357]
A[3, :3] = [2.8971530571054935, -6.359448489975075, 4.3622954328695815]
A[4, :4] = [5.325864828439257, -11.748883564062828, 7.4955393428898365, -0.09249506636175525]
A[5, :5] = [5.86145544294642, -12.92096931784711, 8.159367898576159, -0.071584973281401, -0.028269050394068383]
A[6, :6] = [
    0.09646076681806523, 0.01, 0.4798896504144996, 1.379008574103742, -3.290069515436081, 2.324710524099774,
]  # fmt: skip
# The difference of the weights of the orders 5 and 4.
E = np.array([
    0.0017800110522257773, 0.0008164344596567463, -0.007880878010261995, 0.1447110071732629, -0.5823571654525552,
    0.45808210592918686, -1 / 66,
])  # fmt: skip

# `(v, y) -> dy/dv`, for pytrees y.
Derivative = Callable[[Any, PyTree], PyTree]


def step(rate: Derivative, v: Any, h: Any, y: PyTree, first: PyTree) -> tuple[PyTree, PyTree, PyTree]:
    """A step of length h, from v.

    Args:
      first: `rate(v, y)`, the last result of the step before.

    Returns:
      `y'`, the estimate of its error, and `rate(v + h, y')`.
    """
    stages = jax.tree.map(lambda k: jnp.zeros((7, *k.shape), k.dtype).at[0].set(k), first)
    stages = _evaluate(rate, v, h, y, stages, np.arange(1, 7))
    last = jax.tree.map(lambda k: k[6], stages)
    return _moved(y, h, A[6], stages), jax.tree.map(lambda k: h * _weighted(E, k), stages), last


def step_alone(rate: Derivative, v: Any, h: Any, y: PyTree) -> PyTree:
    """`y'`, by a step that knows nothing of the step before and estimates no error: six evaluations."""
    zeros = jax.tree.map(lambda leaf: jnp.zeros((7, *leaf.shape), leaf.dtype), y)
    return _moved(y, h, A[6], _evaluate(rate, v, h, y, zeros, np.arange(6)))


def _evaluate(rate: Derivative, v: Any, h: Any, y: PyTree, stages: PyTree, which: np.ndarray) -> PyTree:
    """The stages, with some of them evaluated one after the other. All use one copy of the program of `rate`."""

    def evaluate(stages: PyTree, row: Any) -> tuple[PyTree, None]:
        i, a, c = row
        k = rate(v + c * h, _moved(y, h, a, stages))
        return jax.tree.map(lambda all, one: all.at[i].set(one), stages, k), None

    dtype = jnp.result_type(h)
    return loops.scan(evaluate, stages, (which, jnp.asarray(A[which], dtype), jnp.asarray(C[which], dtype)))[0]


def _moved(y: PyTree, h: Any, weights: Any, stages: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf, k: leaf + (h * _weighted(weights, k)).astype(leaf.dtype), y, stages)


def _weighted(weights: Any, k: Any) -> Any:
    """The sum over stages, elementwise: a product of matrices would lose digits on TPUs."""
    return jnp.sum(jnp.asarray(weights, k.dtype).reshape(-1, *[1] * (k.ndim - 1)) * k, axis=0)
