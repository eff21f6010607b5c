import numpy as np
import pytest

from jaxdiff.data import TOYS, toy2d


@pytest.mark.parametrize("name", TOYS)
def test_points_are_reproducible_centred_and_of_unit_scale(name):
    images = toy2d(name, 4001, seed=3)
    x = images.source.x
    assert (x.shape, x.dtype, images.shape) == ((4001, 2), np.float32, (2,))
    np.testing.assert_array_equal(x, toy2d(name, 4001, seed=3).source.x)
    assert not np.array_equal(x, toy2d(name, 4001, seed=4).source.x)
    assert np.abs(x).max() < 1.25
    assert np.abs(x.mean(0)).max() < 0.05
    assert 0.25 < x.std(0).min() < x.std(0).max() < 0.75
    if images.num_classes:
        counts = np.bincount(images.source.labels)
        assert len(counts) == images.num_classes == len(images.class_names)
        assert np.ptp(counts) <= 1


def test_checkerboard_is_uniform_on_its_squares():
    x = toy2d("checkerboard", 16_000).source.x
    column, row = np.floor((x + 1) * 2).astype(int).T
    assert ((column + row) % 2 == 0).all()
    counts = np.bincount(4 * row + column)
    counts = counts[counts > 0]
    assert len(counts) == 8
    assert ((counts - 2000) ** 2 / 2000).sum() < 24.3  # chi-square, 7 degrees of freedom, one in a thousand


def test_gaussians_have_their_modes_and_width():
    images = toy2d("gaussians", 8000)
    for k in range(8):
        mode = images.source.x[images.source.labels == k]
        angle = 2 * np.pi * k / 8
        np.testing.assert_allclose(mode.mean(0), [0.8 * np.cos(angle), 0.8 * np.sin(angle)], atol=0.01)
        np.testing.assert_allclose(mode.std(0), 0.05, rtol=0.1)


@pytest.mark.parametrize("name", ["moons", "spirals"])
def test_curved_classes_are_congruent_and_apart(name):
    images = toy2d(name, 3000)
    first, second = (images.source.x[images.source.labels == k] for k in (0, 1))
    distance = np.sqrt(((first[:, None] - second[None]) ** 2).sum(-1))
    if name == "moons":
        assert distance.min() > 0.05
    # Each is the other turned about the origin.
    turned = np.sqrt(((first[:, None] + second[None]) ** 2).sum(-1))
    assert turned.min(1).max() < 0.15
    # Neighbours are of one class: a classifier by nearest neighbour has little to get wrong.
    own = np.sqrt(((first[:, None] - first[None]) ** 2).sum(-1)) + np.eye(len(first)) * 9
    assert (own.min(1) < distance.min(1)).mean() > 0.97


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="'swissroll' is not a toy distribution; allowed are checkerboard"):
        toy2d("swissroll")
    with pytest.raises(ValueError, match="n = 0"):
        toy2d(n=0)
    with pytest.raises(ValueError, match="seed = -1"):
        toy2d(seed=-1)
