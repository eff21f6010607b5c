"""Precision, recall and copies: how a set of samples lies among real examples, by nearest neighbours.

Sets are arrays `[n, *event]` (features of images, or the images themselves), compared by the Euclidean distance of
their flattened rows. All arithmetic is float64 NumPy in blocks of fixed size: memory grows with the sets themselves,
not with the product of their sizes.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike

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

    A set's manifold is the union of balls around its points, each reaching to that point's k-th nearest other point:

        M(Phi)    = union over p in Phi of { x : |x - p| <= |p - NN_k(p, Phi)| }
        precision = fraction of the generated points in M(real)
        recall    = fraction of the real points in M(generated)

    Both depend on k and on the numbers of points; compare only figures made with equal ones.

    Args:
        real: `[n, *event]`, n > k.
        generated: `[m, *event]`, m > k.
        k: which neighbour sets a ball's radius; the paper takes 3.

    Raises:
        ValueError: for too few points, different event shapes, numbers that are not finite, or k below 1.
    """
    a, b = _pair("real", real, "generated", generated)
    return PrecisionRecall(
        precision=float(np.mean(_covered(b, a, _other_distances("real", a, k)))),
        recall=float(np.mean(_covered(a, b, _other_distances("generated", b, k)))),
    )


def nearest_distances(a: ArrayLike, b: ArrayLike) -> Float[np.ndarray, " n"]:
    """The distance from each point of `a` `[n, *event]` to the nearest of `b` `[m, *event]`: `[n]`, float64.

    A point that lies in `b` too is at distance 0 exactly. For a set's distances within itself see `neighbour_radii`.

    Raises:
        ValueError: for an empty set, different event shapes, or numbers that are not finite.
    """
    points, others = _pair("a", a, "b", b)
    return _neighbour_distances(points, others, 1, same=False)


def neighbour_radii(points: ArrayLike, k: int = 1) -> Float[np.ndarray, " n"]:
    """The distance from each of `points` `[n, *event]` to its k-th nearest other point: `[n]`, float64.

    A point is left out of its own neighbours by its index, so that its duplicates count, at distance 0.

    Raises:
        ValueError: for k below 1, fewer than k + 1 points, or numbers that are not finite.
    """
    return _other_distances("points", _flattened("points", points), k)


def copies(samples: ArrayLike, training: ArrayLike, reference: ArrayLike) -> float:
    """The fraction of samples that are copies of training examples.

    A copy lies closer to a training example than half the distance at which real examples lie from each other:

        min_j |s - t_j| < 1/2 median_i min_{l != i} |r_i - r_l|

    Args:
        samples: `[n, *event]`, what the model drew.
        training: `[m, *event]`, what it was trained on.
        reference: `[r, *event]`, real examples that set the scale; the training examples themselves will do.

    Raises:
        ValueError: for empty sets, different event shapes, numbers that are not finite, or a reference at least half
            of whose examples are duplicates, which sets no scale.
    """
    drawn, seen = _pair("samples", samples, "training", training)
    _, real = _pair("samples", samples, "reference", reference)
    scale = float(np.median(_other_distances("reference", real, 1)))
    if scale == 0.0:
        raise ValueError(
            "the median distance between examples of reference is 0: at least half of them are duplicates, "
            "remove these first"
        )
    return float(np.mean(_neighbour_distances(drawn, seen, 1, same=False) < 0.5 * scale))


def _other_distances(name: str, points: Points, k: int) -> Float[np.ndarray, " n"]:
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if len(points) <= k:
        raise ValueError(f"{name} has {len(points)} points, but the k-th nearest other point with k={k} needs {k + 1}")
    return _neighbour_distances(points, points, k, same=True)


def _neighbour_distances(a: Points, b: Points, k: int, *, same: bool) -> Float[np.ndarray, " n"]:
    """Distance from each of `a` to its k-th nearest of `b`; `same`: they are one set, and no point neighbours itself.

    The candidates are found through |a|^2 + |b|^2 - 2 a.b, which is one matrix product but rounds a small distance
    between long vectors badly; their distances are then taken anew from the differences.
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
    """Whether each of `a` lies in a ball around one of `centres`, borders included."""
    covered = np.zeros(len(a), dtype=bool)
    centre = np.mean(centres, axis=0)
    for rows in _slices(len(a), _ROWS):
        for columns in _slices(len(centres), _COLUMNS):
            # Within the slack of a border rounding decides, and the differences must be asked.
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

    The errors are relative to |a|^2 + |b|^2, so that both sets should be centred.
    """
    lengths_a, lengths_b = np.einsum("ij,ij->i", a, a), np.einsum("ij,ij->i", b, b)
    block = a @ b.T
    block *= -2.0
    block += lengths_a[:, None]
    block += lengths_b
    rounding = 4 * a.shape[1] * np.finfo(np.float64).eps
    return block, rounding * float(np.max(lengths_a) + np.max(lengths_b))


def _squared_differences(a: Points, b: Points) -> Float[np.ndarray, " n"]:
    """Squared distances between rows of equal number: exact for equal rows, and never less than 0."""
    difference = a - b
    return np.einsum("ij,ij->i", difference, difference)


def _slices(length: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, length)) for start in range(0, length, size))


def _flattened(name: str, points: ArrayLike) -> Points:
    array = np.asarray(points)
    if array.ndim < 1 or array.size == 0:
        raise ValueError(f"{name} must have at least one point in an array [n, *event], got shape {array.shape}")
    array = array.reshape(len(array), -1).astype(np.float64)
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{name} must hold finite numbers only, got inf or nan")
    return array


def _pair(name_a: str, a: ArrayLike, name_b: str, b: ArrayLike) -> tuple[Points, Points]:
    """Both sets flattened, once it is known that they may be compared."""
    shape_a, shape_b = np.shape(a), np.shape(b)
    if shape_a[1:] != shape_b[1:]:
        raise ValueError(f"{name_a} and {name_b} must hold events of one shape, got {shape_a} and {shape_b}")
    return _flattened(name_a, a), _flattened(name_b, b)
