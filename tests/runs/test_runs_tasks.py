"""The tasks of restoration: the operator of each one explains the observation by the picture that is looked for."""

import numpy as np
import pytest
from scipy import ndimage

from jaxdiff.runs import tasks

RNG = np.random.default_rng(0)
PICTURE = ndimage.gaussian_filter(RNG.normal(size=(16, 24, 3)), (2, 2, 0)).astype(np.float32) * 3
HIDDEN = np.zeros((16, 24), bool)
HIDDEN[4:9, 5:20] = True


def _explained(problem, wanted):
    """The largest difference between the observation and what the operator sees of a picture."""
    return float(abs(problem.operator(wanted[None].astype(np.float32)) - problem.observation).max())


def test_inpainting_sees_what_is_not_hidden():
    problem = tasks.inpaint(PICTURE, HIDDEN)
    other = np.where(HIDDEN[..., None], 9.0, PICTURE)
    assert _explained(problem, other) == 0
    assert (problem.shown[HIDDEN] == 0).all()
    np.testing.assert_array_equal(problem.kept, ~HIDDEN)


def test_outpainting_is_inpainting_of_a_border():
    problem = tasks.outpaint(PICTURE, 4)
    assert problem.shape == (24, 32, 3)
    assert _explained(problem, np.pad(PICTURE, ((4, 4), (4, 4), (0, 0)), constant_values=5.0)) == 0
    np.testing.assert_array_equal(problem.shown[4:-4, 4:-4], PICTURE)


def test_deblurring_explains_pixels_near_the_border_by_pixels_beyond_it():
    """The blur of scipy, of a larger picture, is what the operator makes of the larger picture."""
    larger = ndimage.gaussian_filter(RNG.normal(size=(24, 32, 3)), (2, 2, 0)) * 3
    blurred = ndimage.gaussian_filter(larger, (1.3, 1.3, 0), truncate=4 / 1.3, mode="wrap")
    problem = tasks.deblur(blurred[4:-4, 4:-4].astype(np.float32), 1.3)
    assert problem.shape == (24, 32, 3)
    assert problem.crop == (slice(4, 20), slice(4, 28))
    assert _explained(problem, larger) < 5e-4  # frequencies that are multiplied by 1e-3 or less are left out


def test_colours_are_seen_as_grey():
    problem = tasks.colorize(PICTURE)
    assert _explained(problem, PICTURE) < 1e-6
    assert (problem.shown == problem.shown[..., :1]).all()
    with pytest.raises(ValueError, match="since the model has no colours"):
        tasks.colorize(PICTURE[..., :1])


def test_super_resolution_sees_the_reduced_picture():
    problem = tasks.super_resolve(PICTURE, 2)
    assert problem.shape == (32, 48, 3)
    flat = tasks.super_resolve(np.full((4, 4, 1), 0.25, np.float32), 3)
    assert _explained(flat, np.full((12, 12, 1), 0.25)) < 1e-6


def test_a_compressed_picture_explains_itself():
    problem = tasks.restore_jpeg(PICTURE / 5, 30)
    again = tasks.restore_jpeg(np.asarray(problem.operator(PICTURE[None] / 5)[0]), 30)
    assert _explained(again, PICTURE / 5) < 1e-6
