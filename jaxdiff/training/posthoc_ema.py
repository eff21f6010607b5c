"""Averages of any width after training, made from snapshots of averages of a few widths.

The method is that of Karras et al. 2024 (EDM2, arXiv 2312.02696), section 3.2 and appendix C. After step t, the average
of exponent gamma gives time tau, 0 < tau < t, a weight that is called its profile:

    (gamma + 1) tau^gamma / t^(gamma + 1)

The weight that `averages.power` gives a step is the integral of the profile over the step. The profile of a weighted
sum of snapshots is the weighted sum of their profiles. The weights follow from least squares on the profiles alone,
without the parameters.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import scipy.linalg
from jaxtyping import Float, PyTree

from jaxdiff import averages
from jaxdiff.checks import require


class Combination(NamedTuple):
    """An average as a weighted sum of snapshots.

    Attributes:
      weights: one weight per snapshot; they sum to 1.
      error: the L2 norm of the difference of the two profiles, divided by the L2 norm of the requested profile. If the
        parameters vary independently about a mean, the error of the average is this fraction of its own standard
        deviation.
    """

    weights: Float[np.ndarray, " n"]
    error: float


def solve(steps: Sequence[int], widths: Sequence[float], step: int, width: float) -> Combination:
    """Finds the weighted sum of snapshots that is closest to the average of width `width` after step `step`.

    Unlike in the paper, the weights are constrained to sum to 1. With few snapshots, the sum of unconstrained weights
    is wrong by some percent, which would scale all parameters by as much.

    Args:
      steps: the step of each snapshot.
      widths: the relative width of each snapshot.
      step: the step of the requested average.
      width: the relative width of the requested average.

    Raises:
      ValueError: there are no snapshots, a step is not positive, or a width is outside of (0, 1/sqrt(12)).
    """
    require(len(steps), "len(steps)", 0, "at least 1, one step per snapshot")
    require(len(widths) == len(steps), "len(widths)", len(widths), f"{len(steps)}, one width per snapshot")
    require(min(*steps, step) >= 1, "step", min(*steps, step), "integers of at least 1")
    times, gammas = np.asarray(steps, np.float64), np.asarray([averages.gamma_of_width(w) for w in widths])
    time, gamma = np.float64(step), np.float64(averages.gamma_of_width(width))
    # Profiles are divided by their norms, so that every number is of order 1 for any length of training.
    gram = _cosine(times[:, None], gammas[:, None], times, gammas)
    target = _cosine(times, gammas, time, gamma)
    sums = _integral(times, gammas) / _integral(time, gamma)
    # Neighbouring snapshots are almost equal, so many solutions differ only by rounding. `lstsq` returns the smallest.
    # With many snapshots, the QR decomposition of "gelsy" is faster than a singular value decomposition.
    right, rounding = np.stack([target, sums], axis=1), len(gram) * np.finfo(np.float64).eps
    solution, *_ = scipy.linalg.lstsq(gram, right, cond=rounding, lapack_driver="gelsy")
    plain, shift = solution.T  # adding a multiple of `shift` makes the weights sum to 1
    best = plain + shift * (1 - sums @ plain) / (sums @ shift)
    return Combination(best * sums, math.sqrt(max(1 - 2 * best @ target + best @ gram @ best, 0.0)))


def _cosine(s: Any, a: Any, t: Any, b: Any) -> Any:
    """The inner product of two profiles of norm 1, of exponent a on [0, s] and of exponent b on [0, t].

    For s <= t it is

        sqrt((2a + 1)(2b + 1)) / (a + b + 1) (s/t)^(b + 1/2)
    """
    outer = np.where(s < t, b, a)
    return np.sqrt((2 * a + 1) * (2 * b + 1)) / (a + b + 1) * np.exp(-(outer + 0.5) * np.abs(np.log(s) - np.log(t)))


def _integral(t: Any, a: Any) -> Any:
    """The integral 1 of a profile on [0, t], divided by its norm `(a + 1) / sqrt((2a + 1) t)`."""
    return np.sqrt((2 * a + 1) * t) / (a + 1)


def combine(weights: Iterable[float], trees: Iterable[PyTree]) -> PyTree:
    """Returns `sum_i weights[i] * trees[i]`, summed in float64 on the host.

    The function reads one tree at a time, so that an iterator needs memory for one tree and the sum. The leaves of the
    result have the types of the leaves of the first tree.
    """
    total, like = None, None
    for weight, tree in zip(weights, trees, strict=True):
        if total is None:
            like = jax.tree.map(lambda leaf: leaf.dtype, tree)
            total = jax.tree.map(lambda leaf: np.zeros(leaf.shape), tree)
        for sum_, leaf in zip(jax.tree.leaves(total), jax.tree.leaves(tree), strict=True):
            sum_ += weight * np.asarray(leaf, np.float64)
    return jax.tree.map(lambda leaf, dtype: leaf.astype(dtype), total, like)
