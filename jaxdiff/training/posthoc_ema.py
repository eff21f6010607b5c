"""Averages of any width after training, out of snapshots of a few: Karras et al. 2024 (EDM2, arXiv 2312.02696), section
3.2 and appendix C.

After step t the average of exponent gamma weighs time tau by its profile, `(gamma + 1) tau^gamma / t^(gamma + 1)` for
0 < tau < t; the weight that `averages.power` gives a step is the integral over it. A sum of snapshots has the sum of their
profiles: its weights are found by least squares on the profiles alone, without a look at the parameters.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import scipy.linalg
from jaxtyping import Float, PyTree

from jaxdiff import averages


class Combination(NamedTuple):
    """How to make an average out of snapshots.

    Attributes:
      weights: of the snapshots; they sum to 1.
      error: the L2 norm of what the profile misses, over that of the profile wanted. Where parameters wander about a
        mean with independent errors, the average is off by this part of its own standard deviation.
    """

    weights: Float[np.ndarray, " n"]
    error: float


def solve(steps: Sequence[int], widths: Sequence[float], step: int, width: float) -> Combination:
    """The weights of snapshots that come closest to the average of relative width `width` after step `step`.

    Unlike the paper's they are made to sum to 1: plain least squares on few snapshots gives sums that are percents off,
    and would scale all parameters by as much.

    Args:
      steps, widths: of each snapshot.
      step, width: those wanted.

    Raises:
      ValueError: no snapshots, steps that are not positive, or a width outside of (0, 1/sqrt(12)).
    """
    if len(steps) != len(widths) or not len(steps):
        raise ValueError(f"steps, widths have lengths {len(steps)}, {len(widths)}; allowed is one of each per snapshot")
    if min(*steps, step) < 1:
        raise ValueError(f"step = {min(*steps, step)}; allowed are positive integers")
    times, gammas = np.asarray(steps, np.float64), np.asarray([averages.gamma_of_width(w) for w in widths])
    time, gamma = np.float64(step), np.float64(averages.gamma_of_width(width))
    # Profiles in units of their norms, so that every number is of order 1 however long the training.
    gram = _cosine(times[:, None], gammas[:, None], times, gammas)
    towards = _cosine(times, gammas, time, gamma)
    sums = _integral(times, gammas) / _integral(time, gamma)
    # Neighbouring snapshots are almost alike: of the solutions that differ by rounding this is the smallest. By a QR
    # decomposition, which is faster than one by singular values where snapshots are many.
    wanted, rounding = np.stack([towards, sums], axis=1), len(gram) * np.finfo(np.float64).eps
    solution, *_ = scipy.linalg.lstsq(gram, wanted, cond=rounding, lapack_driver="gelsy")
    plain, level = solution.T
    best = plain + level * (1 - sums @ plain) / (sums @ level)
    return Combination(best * sums, math.sqrt(max(1 - 2 * best @ towards + best @ gram @ best, 0.0)))


def _cosine(s: Any, a: Any, t: Any, b: Any) -> Any:
    """The inner product of the profiles of exponents a on [0, s] and b on [0, t], in units of their norms:

    sqrt((2a + 1)(2b + 1)) / (a + b + 1) (s/t)^(b + 1/2)    for s <= t
    """
    outer = np.where(s < t, b, a)
    return np.sqrt((2 * a + 1) * (2 * b + 1)) / (a + b + 1) * np.exp(-(outer + 0.5) * np.abs(np.log(s) - np.log(t)))


def _integral(t: Any, a: Any) -> Any:
    """The integral of a profile, which is 1, in units of its norm, `(a + 1) / sqrt((2a + 1) t)`."""
    return np.sqrt((2 * a + 1) * t) / (a + 1)


def combine(weights: Iterable[float], trees: Iterable[PyTree]) -> PyTree:
    """`sum_i weights[i] * trees[i]`, summed in float64 on the host, in the type of the first tree's leaves.

    Takes one tree at a time, so that an iterator needs memory for one of them and the sum.
    """
    total, like = None, None
    for weight, tree in zip(weights, trees, strict=True):
        if total is None:
            like = jax.tree.map(lambda leaf: leaf.dtype, tree)
            total = jax.tree.map(lambda leaf: np.zeros(leaf.shape), tree)
        for sum_, leaf in zip(jax.tree.leaves(total), jax.tree.leaves(tree), strict=True):
            sum_ += weight * np.asarray(leaf, np.float64)
    return jax.tree.map(lambda leaf, dtype: leaf.astype(dtype), total, like)
