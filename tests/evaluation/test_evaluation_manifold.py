"""Precision, recall and copies against brute force, scikit-learn and cases that can be counted by hand."""

import subprocess
import sys
import tracemalloc
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.neighbors import NearestNeighbors

from jaxdiff.evaluation import copies, digit_classifier, manifold, nearest_distances, neighbour_radii, precision_recall


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks so small, and so unequal, that every set below spans several."""
    monkeypatch.setattr(manifold, "_ROWS", 7)
    monkeypatch.setattr(manifold, "_COLUMNS", 5)


def all_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Every distance from its definition."""
    return np.array([[np.sqrt(np.sum((p - q) ** 2)) for q in b] for p in a])


def brute_radii(points: np.ndarray, k: int) -> np.ndarray:
    distances = all_distances(points, points)
    return np.array([np.sort(np.delete(row, i))[k - 1] for i, row in enumerate(distances)])


def brute_precision_recall(real: np.ndarray, generated: np.ndarray, k: int) -> tuple[float, float]:
    between = all_distances(generated, real)
    precision = np.mean([any(row <= brute_radii(real, k)) for row in between])
    recall = np.mean([any(row <= brute_radii(generated, k)) for row in between.T])
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
    """At the real block size, across the border of the rows."""
    a, b = gaussian(2, 1500, d).astype(np.float32), gaussian(3, 900, d).astype(np.float32)
    tree = NearestNeighbors(algorithm="kd_tree").fit(b.astype(np.float64))
    np.testing.assert_allclose(nearest_distances(a, b), tree.kneighbors(a, 1)[0][:, 0], rtol=1e-12)
    # Without a query scikit-learn leaves each point out of its own neighbours.
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


def test_disjoint_far_sets_are_nothing() -> None:
    assert precision_recall(gaussian(7, 100), gaussian(8, 100) + 1e3) == (0.0, 0.0)


def test_collapse_to_one_mode_of_ten() -> None:
    """Perfect samples of one class out of ten: all of them real, a tenth of the data reached."""
    modes = np.repeat(100.0 * np.arange(10), 30)[:, None] + gaussian(9, 300, 2)
    measured = precision_recall(modes, modes[:30])
    assert measured == (1.0, 0.1)
    # And the other way round: the data have one mode, the samples nine more.
    assert precision_recall(modes[:30], modes) == (0.1, 1.0)


def test_one_distribution_twice_gives_equal_figures() -> None:
    """Precision and recall change places with the sets, and neither is near 0 for two draws of one distribution."""
    a, b = gaussian(10, 400, 2), gaussian(11, 400, 2)
    forth, back = precision_recall(a, b), precision_recall(b, a)
    assert (forth.precision, forth.recall) == (back.recall, back.precision)
    assert min(forth) > 0.9


@pytest.mark.usefixtures("small_blocks")
def test_borders_are_included() -> None:
    """On whole numbers every distance is exact, and many points lie on a border: the counts agree with brute force."""
    assert precision_recall(np.arange(4.0), np.array([4.0, 5.0]), 1) == (0.5, 0.25)
    differ = 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        real, generated = rng.integers(0, 9, (30, 3)) * 1.0, rng.integers(4, 13, (20, 3)) * 1.0
        expected = brute_precision_recall(real, generated, 2)
        assert precision_recall(real, generated, 2) == expected
        inner = [any(row < brute_radii(real, 2)) for row in all_distances(generated, real)]
        differ += float(np.mean(inner)) != expected[0]
    # So that the test could fail: with borders left out the figures are others.
    assert differ > 0


@pytest.mark.usefixtures("small_blocks")
def test_permutations_change_nothing() -> None:
    rng = np.random.default_rng(12)
    a, b = rng.normal(size=(40, 6)), rng.normal(size=(33, 6)) * 0.9
    p, q = rng.permutation(40), rng.permutation(33)
    assert precision_recall(a, b, 3) == precision_recall(a[p], b[q], 3)
    np.testing.assert_array_equal(nearest_distances(a, b)[p], nearest_distances(a[p], b[q]))
    np.testing.assert_array_equal(neighbour_radii(a, 3)[p], neighbour_radii(a[p], 3))
    assert copies(a, b, b) == copies(a[p], b[q], b[q])


@pytest.mark.usefixtures("small_blocks")
def test_duplicates_are_neighbours_at_distance_0() -> None:
    """A point leaves out itself and not its twin; with twins the old first neighbour is the second and the third."""
    points = gaussian(13, 25, 20) + 5.0
    twice = np.concatenate([points, points])
    alone = neighbour_radii(points, 1)
    assert np.all(alone > 0)
    np.testing.assert_array_equal(neighbour_radii(twice, 1), 0.0)
    np.testing.assert_array_equal(neighbour_radii(twice, 2), np.concatenate([alone, alone]))
    np.testing.assert_array_equal(neighbour_radii(twice, 3), np.concatenate([alone, alone]))
    # Radii of 0 still cover the points themselves, and nothing else.
    assert precision_recall(twice, twice, 1) == (1.0, 1.0)
    assert precision_recall(twice, np.concatenate([points, points + 1e-9]), 1).precision == 0.5


def test_far_from_the_origin_nothing_is_lost() -> None:
    """Distances of 5 between vectors of length 1.5e9, all exact: |a|^2 + |b|^2 - 2 a.b has no correct digit there."""
    line = np.arange(50.0)[:, None] * np.array([3.0, 4.0]) + 2.0**30
    np.testing.assert_array_equal(neighbour_radii(line, 1), 5.0)
    np.testing.assert_array_equal(neighbour_radii(line, 2)[1:-1], 5.0)
    np.testing.assert_array_equal(nearest_distances(line + np.array([4.0, -3.0]), line), 5.0)
    assert precision_recall(line + np.array([4.0, -3.0]), line, 1) == (1.0, 1.0)
    assert precision_recall(line + np.array([8.0, -6.0]), line, 1) == (0.0, 0.0)


def test_memory_does_not_grow_with_the_product(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifold, "_ROWS", 64)
    monkeypatch.setattr(manifold, "_COLUMNS", 64)
    a, b = gaussian(16, 1500, 4), gaussian(17, 2000, 4)
    whole = len(a) * len(b) * 8
    tracemalloc.start()
    nearest_distances(a, b)
    precision_recall(a, b)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < whole / 20


def test_copies_are_counted_by_half_the_median_spacing() -> None:
    real = np.arange(20.0)[:, None]  # spacing 1, so that a copy is nearer than 0.5
    samples = np.array([[3.0], [3.49], [3.51], [7.5], [-0.49], [-0.51], [19.4], [40.0]])
    # 0, 0.49, 0.49 (to the next one), 0.5, 0.49, 0.51, 0.4 and 21 away: five are nearer than 0.5.
    assert copies(samples, real, real) == 5 / 8
    # Only a training example can be memorised: what lies near other real examples is no copy.
    assert copies(samples, real[10:], real) == 1 / 8
    # The scale is the reference's alone.
    assert copies(samples, real, 10 * real) == 7 / 8
    assert copies(samples / 1024, real / 1024, real / 1024) == 5 / 8
    assert copies(real, real, real) == 1.0


def test_the_spacing_is_a_median() -> None:
    """One far example and a few twins do not move the scale."""
    real = np.concatenate([np.arange(20.0), [3.0, 8.0, 1e6]])[:, None]
    assert copies(np.array([[5.45], [-0.55]]), real, real) == 0.5


def test_real_digits_are_no_copies_of_each_other() -> None:
    images = np.random.default_rng(18).permutation(load_digits().images)
    held_out, training = images[:300], images[300:]
    assert copies(held_out, training, images) < 0.02
    assert copies(training[:300] + 0.01, training, images) == 1.0
    measured = precision_recall(images[:800], images[800:1600])
    assert min(measured) > 0.9


GOOD = np.arange(12.0).reshape(6, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: precision_recall(GOOD, GOOD, 0), "k must be at least 1, got 0"),
        (lambda: precision_recall(GOOD, GOOD, 6), "real has 6 points.*k=6 needs 7"),
        (lambda: precision_recall(GOOD, GOOD[:3], 4), "generated has 3 points.*k=4 needs 5"),
        (lambda: precision_recall(GOOD, GOOD[:, :1]), r"real and generated.*one shape.*\(6, 2\) and \(6, 1\)"),
        (lambda: precision_recall(GOOD, GOOD.reshape(6, 2, 1)), "one shape"),
        (lambda: precision_recall(GOOD * np.nan, GOOD), "real must hold finite numbers"),
        (lambda: precision_recall(GOOD, GOOD / np.array([0.0, 1.0])), "generated must hold finite numbers"),
        (lambda: nearest_distances(GOOD, GOOD[:0]), r"b must have at least one point.*\(0, 2\)"),
        (lambda: nearest_distances(GOOD[:0], GOOD), r"a must have at least one point"),
        (lambda: nearest_distances(np.float64(3), np.float64(3)), r"a must have at least one point"),
        (lambda: neighbour_radii(GOOD[:1]), "points has 1 points"),
        (lambda: copies(GOOD, GOOD, GOOD[:, :1]), "samples and reference"),
        (lambda: copies(GOOD, GOOD[:, :1], GOOD), "samples and training"),
        (lambda: copies(GOOD, GOOD, np.repeat(GOOD, 2, axis=0)), "reference is 0"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_bad_arguments_are_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


# The classifier that judges labelled samples.


def digits() -> tuple[np.ndarray, np.ndarray]:
    data = load_digits()
    return (data.images / 8 - 1)[..., None].astype(np.float32), data.target


@pytest.mark.parametrize("seed", [0, 1])
def test_digits_held_out_are_recognised(seed: int) -> None:
    images, labels = digits()
    order = np.random.default_rng(seed).permutation(len(images))
    fitted, held_out = order[: int(0.8 * len(order))], order[int(0.8 * len(order)) :]
    classify = digit_classifier(images[fitted], labels[fitted])
    predicted = classify(images[held_out])
    assert predicted.shape == (len(held_out),)
    assert np.issubdtype(predicted.dtype, np.integer)
    assert np.mean(predicted == labels[held_out]) >= 0.98
    np.testing.assert_array_equal(classify(jnp.asarray(images[held_out])), predicted)
    # A judge must be able to say no: noise does not look like all the digits asked for.
    noise = np.random.default_rng(seed).uniform(-1, 1, (200, 8, 8, 1))
    assert np.mean(classify(noise) == np.arange(200) % 10) < 0.3


def test_labels_without_meaning_are_not_recognised() -> None:
    images, labels = digits()
    shuffled = np.random.default_rng(0).permutation(labels)
    classify = digit_classifier(images[:800], shuffled[:800])
    assert np.mean(classify(images[800:]) == shuffled[800:]) < 0.2


def test_a_closed_case_with_two_pixels() -> None:
    """Two classes on either side of a line, fewer pixels than components."""
    images = np.random.default_rng(0).uniform(-1, 1, (400, 2, 1, 1))
    labels = (images[:, 0, 0, 0] > images[:, 1, 0, 0]).astype(np.int32)
    classify = digit_classifier(images, labels)
    np.testing.assert_array_equal(classify(np.array([[0.9, -0.9], [-0.5, 0.5]]).reshape(2, 2, 1, 1)), [1, 0])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda x, y: (8 * x + 8, y), ValueError, r"images must have values in \[-1, 1\], got values from 0"),
        (lambda x, y: (np.full_like(x, np.nan), y), ValueError, "images must hold finite numbers"),
        (lambda x, y: (x * 0, y), ValueError, "images are all alike"),
        (lambda x, y: (x[:0], y[:0]), ValueError, "images must have at least one image"),
        (lambda x, y: (x, y[:-1]), ValueError, r"labels must have shape \(50,\).*got \(49,\)"),
        (lambda x, y: (x, y[:, None]), ValueError, r"labels must have shape \(50,\).*got \(50, 1\)"),
        (lambda x, y: (x, y * 0 + 3), ValueError, "at least two classes, got only 3"),
        (lambda x, y: (x, y + 0.5), TypeError, "labels must be integers, got float64"),
    ],
)
def test_what_cannot_be_learned_from_is_refused(
    change: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]], error: type[Exception], message: str
) -> None:
    images, labels = digits()
    with pytest.raises(error, match=message):
        digit_classifier(*change(images[:50], labels[:50]))


def test_what_cannot_be_judged_is_refused() -> None:
    images, labels = digits()
    classify = digit_classifier(images[:100], labels[:100])
    with pytest.raises(ValueError, match=r"samples must have shape \[m, 8, 8, 1\], got \(4, 64\)"):
        classify(images[:4].reshape(4, 64))
    with pytest.raises(ValueError, match="samples must hold finite numbers"):
        classify(images[:4] * np.nan)


def test_scikit_learn_is_asked_for_by_name_and_only_when_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import sys, jaxdiff.evaluation; sys.exit('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    images, labels = digits()
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match="digit_classifier needs scikit-learn"):
        digit_classifier(images, labels)
