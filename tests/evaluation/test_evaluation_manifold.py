"""Precision, recall and memorisation against brute force, scikit-learn and cases that are counted by hand."""

import tracemalloc
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.neighbors import NearestNeighbors

from jaxdiff.evaluation import (
    digit_classifier,
    manifold,
    memorised,
    nearest_distances,
    neighbour_radii,
    precision_recall,
    report,
)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unequal blocks that are so small that every set below spans several."""
    monkeypatch.setattr(manifold, "_ROWS", 7)
    monkeypatch.setattr(manifold, "_COLUMNS", 5)


def all_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Every distance by its definition."""
    return np.sqrt(np.sum((a[:, None] - b[None]) ** 2, axis=-1))


def brute_radii(points: np.ndarray, k: int) -> np.ndarray:
    distances = all_distances(points, points)
    np.fill_diagonal(distances, np.inf)
    return np.sort(distances, axis=1)[:, k - 1]


def brute_precision_recall(real: np.ndarray, generated: np.ndarray, k: int) -> tuple[float, float]:
    between = all_distances(generated, real)
    precision = np.mean(np.any(between <= brute_radii(real, k), axis=1))
    recall = np.mean(np.any(between <= brute_radii(generated, k)[:, None], axis=0))
    return float(precision), float(recall)


def gaussian(seed: int, n: int, d: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d))


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("k", [1, 2, 5, 9])
@pytest.mark.parametrize(("n", "m"), [(10, 23), (31, 12)])
def test_brute_force_agrees(n: int, m: int, k: int) -> None:
    real, generated = gaussian(0, n), 0.8 * gaussian(1, m) + 0.3
    np.testing.assert_allclose(neighbour_radii(real, k), brute_radii(real, k), rtol=1e-14)
    np.testing.assert_allclose(
        nearest_distances(generated, real), np.min(all_distances(generated, real), axis=1), rtol=1e-14
    )
    measured = precision_recall(real, generated, k)
    assert measured == brute_precision_recall(real, generated, k)
    assert 0 < measured.precision <= 1


@pytest.mark.parametrize("d", [2, 64, 784])
def test_scikit_learn_agrees(d: int) -> None:
    """At the real block size, across the border of two row blocks."""
    a, b = gaussian(2, 1200, d).astype(np.float32), gaussian(3, 200, d).astype(np.float32)
    tree = NearestNeighbors(algorithm="kd_tree").fit(b.astype(np.float64))
    np.testing.assert_allclose(nearest_distances(a, b), tree.kneighbors(a, 1)[0][:, 0], rtol=1e-12)
    # Without a query, scikit-learn does not count a point among its own neighbours.
    np.testing.assert_allclose(neighbour_radii(b, 4), tree.kneighbors(None, 4)[0][:, 3], rtol=1e-12)


def test_events_of_any_shape_and_arrays_of_either_library() -> None:
    a, b = gaussian(4, 20, 12), gaussian(5, 30, 12)
    images_a, images_b = a.reshape(20, 2, 3, 2), b.reshape(30, 2, 3, 2)
    np.testing.assert_array_equal(nearest_distances(images_a, images_b), nearest_distances(a, b))
    assert precision_recall(images_a, images_b, 3) == precision_recall(a, b, 3)
    single = precision_recall(a.astype(np.float32), b.astype(np.float32), 3)
    assert precision_recall(jnp.asarray(images_a, jnp.float32), jnp.asarray(images_b, jnp.float32), 3) == single
    np.testing.assert_allclose(nearest_distances([0.0, 10.0], [1.0, 7.0, 30.0]), [1.0, 3.0])


@pytest.mark.parametrize("d", [1, 3, 50])
def test_identical_sets_are_perfect(d: int) -> None:
    points = gaussian(6, 200, d)
    assert precision_recall(points, points[::-1].copy()) == (1.0, 1.0)
    np.testing.assert_array_equal(nearest_distances(points, points), 0.0)


def test_distant_sets_have_precision_and_recall_0() -> None:
    assert precision_recall(gaussian(7, 100), gaussian(8, 100) + 1e3) == (0.0, 0.0)


def test_collapse_to_one_mode_of_ten() -> None:
    """Perfect samples of one class out of ten have precision 1 and recall 0.1."""
    modes = np.repeat(100.0 * np.arange(10), 30)[:, None] + gaussian(9, 300, 2)
    measured = precision_recall(modes, modes[:30])
    assert measured == (1.0, 0.1)
    # The reverse: the data have one mode, and the samples have nine more.
    assert precision_recall(modes[:30], modes) == (0.1, 1.0)


def test_one_distribution_twice_gives_equal_figures() -> None:
    """Swapping the sets swaps precision and recall; both are high for two draws of one distribution."""
    a, b = gaussian(10, 400, 2), gaussian(11, 400, 2)
    forth, back = precision_recall(a, b), precision_recall(b, a)
    assert (forth.precision, forth.recall) == (back.recall, back.precision)
    assert min(forth) > 0.9


@pytest.mark.usefixtures("small_blocks")
def test_borders_are_included() -> None:
    """For integers every distance is exact, and many points lie on a border: the counts agree with brute force."""
    assert precision_recall(np.arange(4.0), np.array([4.0, 5.0]), 1) == (0.5, 0.25)
    differ = 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        real, generated = rng.integers(0, 9, (30, 3)) * 1.0, rng.integers(4, 13, (20, 3)) * 1.0
        expected = brute_precision_recall(real, generated, 2)
        assert precision_recall(real, generated, 2) == expected
        inner = np.any(all_distances(generated, real) < brute_radii(real, 2), axis=1)
        differ += float(np.mean(inner)) != expected[0]
    # The test can fail: open balls give other figures.
    assert differ > 0


@pytest.mark.usefixtures("small_blocks")
def test_permutations_change_nothing() -> None:
    rng = np.random.default_rng(12)
    a, b = rng.normal(size=(40, 6)), rng.normal(size=(33, 6)) * 0.9
    p, q = rng.permutation(40), rng.permutation(33)
    assert precision_recall(a, b, 3) == precision_recall(a[p], b[q], 3)
    np.testing.assert_array_equal(nearest_distances(a, b)[p], nearest_distances(a[p], b[q]))
    np.testing.assert_array_equal(neighbour_radii(a, 3)[p], neighbour_radii(a[p], 3))
    assert memorised(a, b, b) == memorised(a[p], b[q], b[q])


@pytest.mark.usefixtures("small_blocks")
def test_duplicates_are_neighbours_at_distance_0() -> None:
    """Only the point itself is left out. If every point has a twin, the first neighbour becomes the second and third."""
    points = gaussian(13, 25, 20) + 5.0
    twice = np.concatenate([points, points])
    alone = neighbour_radii(points, 1)
    assert np.all(alone > 0)
    np.testing.assert_array_equal(neighbour_radii(twice, 1), 0.0)
    np.testing.assert_array_equal(neighbour_radii(twice, 2), np.concatenate([alone, alone]))
    np.testing.assert_array_equal(neighbour_radii(twice, 3), np.concatenate([alone, alone]))
    # Balls of radius 0 cover the points themselves and nothing else.
    assert precision_recall(twice, twice, 1) == (1.0, 1.0)
    assert precision_recall(twice, np.concatenate([points, points + 1e-9]), 1).precision == 0.5


def test_distances_are_exact_far_from_the_origin() -> None:
    """Distances of 5 between vectors of length 1.5e9, where |a|^2 + |b|^2 - 2 a.b has no correct digit."""
    line = np.arange(50.0)[:, None] * np.array([3.0, 4.0]) + 2.0**30
    np.testing.assert_array_equal(neighbour_radii(line, 1), 5.0)
    np.testing.assert_array_equal(neighbour_radii(line, 2)[1:-1], 5.0)
    np.testing.assert_array_equal(nearest_distances(line + np.array([4.0, -3.0]), line), 5.0)
    assert precision_recall(line + np.array([4.0, -3.0]), line, 1) == (1.0, 1.0)
    assert precision_recall(line + np.array([8.0, -6.0]), line, 1) == (0.0, 0.0)


def test_memory_does_not_grow_with_the_product(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifold, "_ROWS", 48)
    monkeypatch.setattr(manifold, "_COLUMNS", 48)
    a, b = gaussian(16, 600, 4), gaussian(17, 800, 4)
    whole = len(a) * len(b) * 8
    tracemalloc.start()
    precision_recall(a, b)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < whole / 20


def test_memorised_samples_are_nearer_than_half_the_median_spacing() -> None:
    real = np.arange(20.0)[:, None]  # spacing 1: a memorised sample is nearer than 0.5
    samples = np.array([[3.0], [3.49], [3.51], [7.5], [-0.49], [-0.51], [19.4], [40.0]])
    # 0, 0.49, 0.49 (to the next one), 0.5, 0.49, 0.51, 0.4 and 21 away: five are nearer than 0.5.
    assert memorised(samples, real, real) == 5 / 8
    # Only samples near training examples count, not samples near other real examples.
    assert memorised(samples, real[10:], real) == 1 / 8
    # The reference alone sets the scale.
    assert memorised(samples, real, 10 * real) == 7 / 8
    assert memorised(samples / 1024, real / 1024, real / 1024) == 5 / 8
    assert memorised(real, real, real) == 1.0


def test_the_spacing_is_a_median() -> None:
    """One distant example and a few twins do not change the scale."""
    real = np.concatenate([np.arange(20.0), [3.0, 8.0, 1e6]])[:, None]
    assert memorised(np.array([[5.45], [-0.55]]), real, real) == 0.5


def test_held_out_digits_are_not_memorised() -> None:
    images = np.random.default_rng(18).permutation(load_digits().images)
    held_out, training = images[:300], images[300:]
    assert memorised(held_out, training, images) < 0.02
    assert memorised(training[:300] + 0.01, training, images) == 1.0
    measured = precision_recall(images[:800], images[800:1600])
    assert min(measured) > 0.9


GOOD = np.arange(12.0).reshape(6, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: precision_recall(GOOD, GOOD, 0), "k = 0; allowed are integers of at least 1"),
        (lambda: precision_recall(GOOD, GOOD, 6), r"len\(real\) = 6; allowed are integers of at least 7 for k = 6"),
        (lambda: precision_recall(GOOD, GOOD[:3], 4), r"len\(generated\) = 3; allowed are integers of at least 5"),
        (
            lambda: precision_recall(GOOD, GOOD[:, :1]),
            r"generated.shape = \(6, 1\); allowed are .*real.shape = \(6, 2\)",
        ),
        (lambda: precision_recall(GOOD, GOOD.reshape(6, 2, 1)), r"generated.shape = \(6, 2, 1\)"),
        (lambda: precision_recall(GOOD * np.nan, GOOD), r"real = \[nan\]; allowed are finite numbers"),
        (
            lambda: precision_recall(GOOD, GOOD / np.array([0.0, 1.0])),
            r"generated = \[nan\]; allowed are finite numbers",
        ),
        (lambda: nearest_distances(GOOD, GOOD[:0]), r"b.shape = \(0, 2\); allowed are \[n, \*event\]"),
        (lambda: nearest_distances(GOOD[:0], GOOD), r"a.shape = \(0, 2\)"),
        (lambda: nearest_distances(np.float64(3), np.float64(3)), r"a.shape = \(\)"),
        (lambda: neighbour_radii(GOOD[:1]), r"len\(points\) = 1"),
        (lambda: memorised(GOOD, GOOD, GOOD[:, :1]), r"reference.shape = \(6, 1\); allowed are .*samples.shape"),
        (lambda: memorised(GOOD, GOOD[:, :1], GOOD), r"training.shape = \(6, 1\)"),
        (
            lambda: memorised(GOOD, GOOD, np.repeat(GOOD, 2, axis=0)),
            r"distance of reference = 0.0; allowed are positive",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_wrong_arguments_are_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


# The classifier that judges labelled samples, and the report.


def digits() -> tuple[np.ndarray, np.ndarray]:
    data = load_digits()
    return (data.images / 8 - 1)[..., None].astype(np.float32), data.target


def test_held_out_digits_are_classified() -> None:
    images, labels = digits()
    order = np.random.default_rng(0).permutation(len(images))
    fitted, held_out = order[: int(0.8 * len(order))], order[int(0.8 * len(order)) :]
    classify = digit_classifier(images[fitted], labels[fitted])
    predicted = classify(images[held_out])
    assert predicted.shape == (len(held_out),)
    assert np.issubdtype(predicted.dtype, np.integer)
    # Cross-validation gives 0.99, with a standard deviation of 0.005 on 360 images.
    assert np.mean(predicted == labels[held_out]) >= 0.98
    np.testing.assert_array_equal(classify(jnp.asarray(images[held_out])), predicted)
    # Noise does not show the digit asked for: one in ten by chance, with a standard deviation of 0.02.
    noise = np.random.default_rng(0).uniform(-1, 1, (200, 8, 8, 1))
    assert np.mean(classify(noise) == np.arange(200) % 10) < 0.3


def test_a_report_tells_held_out_digits_from_copies() -> None:
    images, labels = digits()
    order = np.random.default_rng(0).permutation(len(images))
    train, held_out = ((images[part], labels[part]) for part in (order[:400], order[400:600]))
    copied = report(*train, train, held_out)
    assert (copied.label_accuracy, copied.precision, copied.recall, copied.memorised) == (1, 1, 1, 1)
    fresh = report(*held_out, train, held_out)
    assert fresh.label_accuracy == fresh.classifier == copied.classifier > 0.9
    assert fresh.memorised < 0.05
    assert report(held_out[0], (held_out[1] + 1) % 10, train, held_out).label_accuracy < 0.1


def test_shuffled_labels_are_not_learned() -> None:
    images, labels = digits()
    shuffled = np.random.default_rng(0).permutation(labels)
    classify = digit_classifier(images[:800], shuffled[:800])
    # One in ten by chance, with a standard deviation of 0.01.
    assert np.mean(classify(images[800:]) == shuffled[800:]) < 0.2


def test_two_pixels() -> None:
    """Two classes on either side of a line; there are fewer pixels than components."""
    images = np.random.default_rng(0).uniform(-1, 1, (400, 2, 1, 1))
    labels = (images[:, 0, 0, 0] > images[:, 1, 0, 0]).astype(np.int32)
    classify = digit_classifier(images, labels)
    np.testing.assert_array_equal(classify(np.array([[0.9, -0.9], [-0.5, 0.5]]).reshape(2, 2, 1, 1)), [1, 0])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda x, y: (8 * x + 8, y), ValueError, r"max \|images\| = 16.0; allowed are values of at most 1"),
        (lambda x, y: (np.full_like(x, np.nan), y), ValueError, r"images = \[nan\]; allowed are finite numbers"),
        (lambda x, y: (x * 0, y), ValueError, "number of different images = 1; allowed are integers of at least 2"),
        (lambda x, y: (x[:0], y[:0]), ValueError, r"images.shape = \(0, 8, 8, 1\)"),
        (lambda x, y: (x, y[:-1]), ValueError, r"labels.shape = \(49,\); allowed are \(50,\)"),
        (lambda x, y: (x, y[:, None]), ValueError, r"labels.shape = \(50, 1\)"),
        (lambda x, y: (x, y * 0 + 3), ValueError, r"labels = \[3\]; allowed are integers of at least two classes"),
        (lambda x, y: (x, y + 0.5), TypeError, "labels.dtype = float64; allowed are integer types"),
    ],
)
def test_wrong_training_data_are_refused(
    change: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]], error: type[Exception], message: str
) -> None:
    images, labels = digits()
    with pytest.raises(error, match=message):
        digit_classifier(*change(images[:50], labels[:50]))


def test_wrong_samples_are_refused() -> None:
    images, labels = digits()
    classify = digit_classifier(images[:100], labels[:100])
    with pytest.raises(ValueError, match=r"samples.shape = \(4, 64\); allowed are \[m, 8, 8, 1\]"):
        classify(images[:4].reshape(4, 64))
    with pytest.raises(ValueError, match=r"samples = \[nan\]; allowed are finite numbers"):
        classify(images[:4] * np.nan)
