"""Precision, recall and memorisation of a set of samples, by nearest neighbours among real examples.

Sets are arrays `[n, *event]`: features of images, or the images themselves. Distances are Euclidean distances between
flattened examples. All arithmetic is float64 NumPy in blocks of fixed size, so memory grows with the size of the sets
and not with the product of their sizes.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike

from jaxdiff.checks import integer, require

Points = Float[np.ndarray, "n features"]

# One block of distances is 64 MiB of float64.
_ROWS = 1024
_COLUMNS = 8192


class PrecisionRecall(NamedTuple):
    """Fidelity and coverage of a set of samples, each in [0, 1]."""

    precision: float
    recall: float


def precision_recall(real: ArrayLike, generated: ArrayLike, k: int = 5) -> PrecisionRecall:
    """Improved precision and recall (Kynkaanniemi et al. 2019, arXiv:1904.06991, equations 1 and 2).

    The manifold of a set is the union of balls around its points. The radius of a ball is the distance to the k-th
    nearest other point of the set:

        M(Phi)    = union over p in Phi of { x : |x - p| <= |p - NN_k(p, Phi)| }
        precision = fraction of the generated points in M(real)
        recall    = fraction of the real points in M(generated)

    Both depend on k and on the numbers of points. Compare only results with the same k and the same numbers.

    Args:
      real: `[n, *event]`, n > k.
      generated: `[m, *event]`, m > k.
      k: the neighbour whose distance is the radius of a ball. The paper uses 3.

    Raises:
      ValueError: too few points, different event shapes, numbers that are not finite, or k below 1.
    """
    a, b = _pair("real", real, "generated", generated)
    return PrecisionRecall(
        precision=float(np.mean(_covered(b, a, _other_distances("real", a, k)))),
        recall=float(np.mean(_covered(a, b, _other_distances("generated", b, k)))),
    )


def nearest_distances(a: ArrayLike, b: ArrayLike) -> Float[np.ndarray, " n"]:
    """The distance from each point of `a` `[n, *event]` to the nearest point of `b` `[m, *event]`: `[n]`, float64.

    The distance of a point that is also in `b` is exactly 0. `neighbour_radii` gives the distances within one set.

    Raises:
      ValueError: an empty set, different event shapes, or numbers that are not finite.
    """
    points, others = _pair("a", a, "b", b)
    return _neighbour_distances(points, others, 1, same=False)


def neighbour_radii(points: ArrayLike, k: int = 1) -> Float[np.ndarray, " n"]:
    """The distance from each of `points` `[n, *event]` to its k-th nearest other point: `[n]`, float64.

    Duplicates of a point are other points, at distance 0.

    Raises:
      ValueError: k below 1, fewer than k + 1 points, or numbers that are not finite.
    """
    return _other_distances("points", flattened("points", points), k)


def memorised(samples: ArrayLike, training: ArrayLike, reference: ArrayLike) -> float:
    """The fraction of samples that are near-copies of training examples.

    A sample s counts as memorised if its distance to some training example t_j is less than half the median distance
    from a real example r_i to its nearest neighbour:

        min_j |s - t_j| < 1/2 median_i min_{l != i} |r_i - r_l|

    Args:
      samples: `[n, *event]`, the samples of a model.
      training: `[m, *event]`, the examples that the model was trained on.
      reference: `[r, *event]`, real examples that set the scale. They may be the training examples.

    Raises:
      ValueError: empty sets, different event shapes, numbers that are not finite, or a reference in which at least half
        of the examples are duplicates, so that the median is 0.
    """
    drawn, seen = _pair("samples", samples, "training", training)
    _, real = _pair("samples", samples, "reference", reference)
    scale = float(np.median(_other_distances("reference", real, 1)))
    allowed = "positive distances; at least half of the examples are duplicates, remove them first"
    require(scale > 0, "median nearest-neighbour distance of reference", scale, allowed)
    return float(np.mean(_neighbour_distances(drawn, seen, 1, same=False) < 0.5 * scale))


def _other_distances(name: str, points: Points, k: int) -> Float[np.ndarray, " n"]:
    integer("k", k)
    require(len(points) > k, f"len({name})", len(points), f"integers of at least {k + 1} for k = {k}")
    return _neighbour_distances(points, points, k, same=True)


def _neighbour_distances(a: Points, b: Points, k: int, *, same: bool) -> Float[np.ndarray, " n"]:
    """The distance from each of `a` to its k-th nearest point of `b`. With `same`, a is b, and i is no neighbour of i.

    The neighbours are found with |a|^2 + |b|^2 - 2 a.b. This is one matrix product, but its rounding errors are large
    for short distances between long vectors. The distances to the neighbours are therefore computed from differences.
    """
    result = np.empty(len(a))
    centre = np.mean(b, axis=0)
    for rows in _slices(len(a), _ROWS):
        squared = np.full((rows.stop - rows.start, k), np.inf)
        index = np.zeros(squared.shape, dtype=np.int64)
        for columns in _slices(len(b), _COLUMNS):
            block, _ = _squared(a[rows] - centre, b[columns] - centre)
            if same:
                own = np.arange(max(rows.start, columns.start), min(rows.stop, columns.stop))
                block[own - rows.start, own - columns.start] = np.inf
            if block.shape[1] > k:
                chosen = np.argpartition(block, k - 1, axis=1)[:, :k]
            else:
                chosen = np.broadcast_to(np.arange(block.shape[1]), block.shape)
            squared = np.concatenate([squared, np.take_along_axis(block, chosen, axis=1)], axis=1)
            index = np.concatenate([index, chosen + columns.start], axis=1)
            best = np.argpartition(squared, k - 1, axis=1)[:, :k]
            squared, index = np.take_along_axis(squared, best, axis=1), np.take_along_axis(index, best, axis=1)
        exact = np.stack([_squared_differences(a[rows], b[index[:, j]]) for j in range(k)], axis=1)
        result[rows] = np.sqrt(np.max(exact, axis=1))
    return result


def _covered(a: Points, centres: Points, radii: Float[np.ndarray, " m"]) -> Bool[np.ndarray, " n"]:
    """Whether each of `a` lies in a closed ball around one of `centres`."""
    covered = np.zeros(len(a), dtype=bool)
    centre = np.mean(centres, axis=0)
    for rows in _slices(len(a), _ROWS):
        for columns in _slices(len(centres), _COLUMNS):
            # If a point is closer to a border than the rounding error, its distance is computed from differences.
            block, slack = _squared(a[rows] - centre, centres[columns] - centre)
            block -= radii[columns] ** 2
            covered[rows] |= np.any(block < -slack, axis=1)
            for row in np.flatnonzero(~covered[rows] & np.any(block <= slack, axis=1)):
                near = columns.start + np.flatnonzero(block[row] <= slack)
                exact = np.sqrt(_squared_differences(a[rows.start + row], centres[near]))
                covered[rows.start + row] = np.any(exact <= radii[near])
    return covered


def _squared(a: Points, b: Points) -> tuple[Float[np.ndarray, "n m"], float]:
    """Squared distances by one matrix product, and a bound on their rounding errors.

    The errors are relative to |a|^2 + |b|^2, so both sets should be centred.
    """
    lengths_a, lengths_b = np.einsum("ij,ij->i", a, a), np.einsum("ij,ij->i", b, b)
    block = a @ b.T
    block *= -2.0
    block += lengths_a[:, None]
    block += lengths_b
    rounding = 4 * a.shape[1] * np.finfo(np.float64).eps
    return block, rounding * float(np.max(lengths_a) + np.max(lengths_b))


def _squared_differences(a: Points, b: Points) -> Float[np.ndarray, " n"]:
    """Squared distances between row i of `a` and row i of `b`; exactly 0 for equal rows, and never negative."""
    difference = a - b
    return np.einsum("ij,ij->i", difference, difference)


def _slices(length: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, length)) for start in range(0, length, size))


def flattened(name: str, points: ArrayLike) -> Points:
    """`points` `[n, *event]` as float64 `[n, features]`, if they are finite and not empty."""
    array = np.asarray(points)
    require(array.ndim >= 1 and array.size, f"{name}.shape", array.shape, "[n, *event] without a zero")
    array = array.reshape(len(array), -1).astype(np.float64)
    finite = np.isfinite(array)
    require(np.all(finite), name, array[~finite][:1], "finite numbers")
    return array


def _pair(name_a: str, a: ArrayLike, name_b: str, b: ArrayLike) -> tuple[Points, Points]:
    """Both sets, flattened. They must have the same event shape."""
    shape_a, shape_b = np.shape(a), np.shape(b)
    allowed = f"[m, *event] with the event shape of {name_a}.shape = {shape_a}"
    require(shape_a[1:] == shape_b[1:], f"{name_b}.shape", shape_b, allowed)
    return flattened(name_a, a), flattened(name_b, b)
