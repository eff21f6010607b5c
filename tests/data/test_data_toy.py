import numpy as np
import pytest

from jaxdiff.data import TOYS, Field, Toy


def points(examples):
    return examples.source.columns["x"]


@pytest.mark.parametrize("name", TOYS)
def test_points_are_reproducible_centred_and_of_unit_scale(name):
    examples = Toy(name, 4001, seed=3).open()
    x = points(examples)
    assert (x.shape, x.dtype, examples.fields["x"]) == ((4001, 2), np.float32, Field("values", (2,)))
    np.testing.assert_array_equal(x, points(Toy(name, 4001, seed=3).open()))
    assert not np.array_equal(x, points(Toy(name, 4001, seed=4).open()))
    assert np.abs(x).max() < 1.25
    assert np.abs(x.mean(0)).max() < 0.05
    assert 0.25 < x.std(0).min() < x.std(0).max() < 0.75
    if name != "checkerboard":
        counts = np.bincount(examples.source.columns["label"])
        assert len(counts) == examples.fields["label"].classes == len(examples.fields["label"].names)
        assert np.ptp(counts) <= 1


def test_checkerboard_is_uniform_on_its_squares():
    x = points(Toy("checkerboard", 16_000).open())
    column, row = np.floor((x + 1) * 2).astype(int).T
    assert ((column + row) % 2 == 0).all()
    counts = np.bincount(4 * row + column)
    counts = counts[counts > 0]
    assert len(counts) == 8
    assert ((counts - 2000) ** 2 / 2000).sum() < 24.3  # chi-square, 7 degrees of freedom: probability 0.001


def test_gaussians_have_their_modes_and_width():
    examples = Toy("gaussians", 8000).open()
    for k in range(8):
        mode = points(examples)[examples.source.columns["label"] == k]
        angle = 2 * np.pi * k / 8
        np.testing.assert_allclose(mode.mean(0), [0.8 * np.cos(angle), 0.8 * np.sin(angle)], atol=0.01)
        np.testing.assert_allclose(mode.std(0), 0.05, rtol=0.1)


@pytest.mark.parametrize("name", ["moons", "spirals"])
def test_curved_classes_are_congruent_and_separate(name):
    examples = Toy(name, 3000).open()
    first, second = (points(examples)[examples.source.columns["label"] == k] for k in (0, 1))
    distance = np.sqrt(((first[:, None] - second[None]) ** 2).sum(-1))
    if name == "moons":
        assert distance.min() > 0.05
    # Each class is the other one turned about the origin.
    turned = np.sqrt(((first[:, None] + second[None]) ** 2).sum(-1))
    assert turned.min(1).max() < 0.15
    # Nearest neighbours have the same class: a nearest-neighbour classifier is right for over 97 %.
    own = np.sqrt(((first[:, None] - first[None]) ** 2).sum(-1)) + np.eye(len(first)) * 9
    assert (own.min(1) < distance.min(1)).mean() > 0.97


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "swissroll"}, "name = 'swissroll'; allowed are 'checkerboard'"),
        ({"n": 0}, "n = 0; allowed are integers of at least 1"),
        ({"seed": -1}, "seed = -1; allowed are integers of at least 0"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Toy(**arguments)
