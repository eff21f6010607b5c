"""The kernel distance between two sets of features."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from jaxdiff.checks import require

ROWS = 1024  # of the kernel matrix at a time


class KernelDistance(NamedTuple):
    """An estimate and its uncertainty.

    Attributes:
      value: the squared distance. It may be below 0, since the estimate is unbiased.
      error: the standard error of `value`, by the jackknife.
    """

    value: float
    error: float


def kernel_distance(x: ArrayLike, y: ArrayLike) -> KernelDistance:
    """The squared kernel distance (KID) between two sets of features, without bias.

        k(a, b) = (a b/d + 1)^3
        distance = mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{i, j} k(x_i, y_j)

    Binkowski et al. 2018 (arXiv 1801.01401), section 4 and equation 4. Unlike the Frechet distance, its expectation
    does not depend on the number of examples. The standard error is that of the jackknife, which leaves out each
    example of both sets in turn. All sums are those of all examples, in float64, and no subsets are drawn.

    Args:
      x, y: features `[n, d]` and `[m, d]`, with n and m of at least 3.

    Raises:
      ValueError: the shapes do not fit, or a feature is not finite.
    """
    x, y = (np.asarray(values, np.float64) for values in (x, y))
    for name, values in (("x", x), ("y", y)):
        require(values.ndim == 2 and len(values) > 2, f"{name}.shape", values.shape, "[n, d] with n of at least 3")
        require(np.isfinite(values).all(), name, np.nan, "finite numbers")
    require(x.shape[1] == y.shape[1], "y.shape", y.shape, f"[m, {x.shape[1]}], as x")
    xx, yy, xy, yx = (_sums(a, b) for a, b in ((x, x), (y, y), (x, y), (y, x)))
    # Without the pairs of an example with itself.
    xx, yy = (sums - (np.mean(v * v, axis=1) + 1) ** 3 for sums, v in ((xx, x), (yy, y)))
    n, m = len(x), len(y)
    within = (xx.sum() / (n * (n - 1)), yy.sum() / (m * (m - 1)))
    value = sum(within) - 2 * xy.sum() / (n * m)
    variance = 0.0
    for rows, across, other, count, opposite in ((xx, xy, within[1], n, m), (yy, yx, within[0], m, n)):
        left = (rows.sum() - 2 * rows) / ((count - 1) * (count - 2)) + other
        left = left - 2 * (across.sum() - across) / ((count - 1) * opposite)
        variance += (count - 1) / count * np.sum((left - left.mean()) ** 2)
    return KernelDistance(float(value), float(np.sqrt(variance)))


def _sums(x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"]) -> Float[np.ndarray, " n"]:
    """The sums of `k(x_i, y_j)` over j."""
    rows = [np.sum((x[i : i + ROWS] @ y.T / x.shape[1] + 1) ** 3, axis=1) for i in range(0, len(x), ROWS)]
    return np.concatenate(rows)
