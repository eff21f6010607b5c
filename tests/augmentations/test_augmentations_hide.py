"""Hidden parts of pictures, and random choices of degradations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jaxdiff.augmentations import Degrade
from jaxdiff.augmentations.degradations import Hide, Noise, OneOf
from jaxdiff.data import Field

KEYS = jax.random.split(jax.random.key(0), 200)
SHAPE = (20, 30)


def _hidden(hide):
    return np.asarray(jax.vmap(hide.hidden, (0, None))(KEYS, SHAPE))


@pytest.mark.parametrize("shape", ["box", "border"])
def test_boxes_have_the_sizes_of_the_range_and_lie_everywhere(shape):
    masks = _hidden(Hide(shape, 0.25, 0.5))
    boxes = masks if shape == "box" else ~masks
    low, high = (0.25, 0.5) if shape == "box" else (0.5, 0.75)
    for box in boxes:
        rows, columns = (np.flatnonzero(box.any(axis=axis)) for axis in (1, 0))
        assert box[np.ix_(rows, columns)].all()  # one box, without holes
        assert np.ptp(rows) == len(rows) - 1
        assert np.ptp(columns) == len(columns) - 1
        assert low * 20 - 0.5 <= len(rows) <= high * 20 + 0.5
        assert low * 30 - 0.5 <= len(columns) <= high * 30 + 0.5
    assert boxes.any(axis=(0, 1)).all()  # every row and every column is in a box of one of the keys
    assert boxes.any(axis=(0, 2)).all()


def test_strokes_are_connected_and_as_thick_as_they_should():
    """Each of four broken lines is one piece, and a thin line covers less than a thick one."""
    thin, thick = _hidden(Hide("strokes", 0.1, 0.1)), _hidden(Hide("strokes", 0.3, 0.3))
    assert all(ndimage.label(mask, np.ones((3, 3)))[1] <= 4 for mask in thick)
    assert (thick | ~thin).all()
    # A brush that is wider by a fifth of the shorter side, 4 pixels, reaches 2 pixels further, and no more.
    for narrow, broad in zip(thin, thick, strict=True):
        distance = ndimage.distance_transform_edt(~narrow)
        assert distance[broad].max() <= 2 + np.sqrt(2)
        assert distance[~broad].min(initial=9) >= 2 - np.sqrt(0.5)


def test_hidden_pixels_are_noise_and_the_others_stay():
    image = jnp.asarray(np.random.default_rng(0).uniform(-0.5, 0.5, (*SHAPE, 3)), jnp.float32)
    hide = Hide("box", 0.5, 0.5)
    out = jax.vmap(hide, (0, None))(KEYS, image)
    changed = np.asarray((out != image).any(axis=-1))
    assert set(changed.sum(axis=(1, 2))) == {150}
    filled = np.asarray(out)[changed]
    # A standard normal number that is clipped to [-1, 1] is at an end with the probability 0.317.
    assert abs((abs(filled) == 1).mean() - 0.3173) < 0.01
    grey = np.asarray(jax.jit(Hide("box", 0.5, 0.5, fill="grey"))(KEYS[0], image))
    assert (grey == 0).all(axis=-1).sum() == 150


def test_one_of_takes_each_step_as_often_as_the_others():
    steps = (
        Hide("box", 1.0, 1.0, fill="grey"),
        Hide("box", 0.0, 0.0),
        Noise(poisson=0.0, sigma_min=5.0, sigma_max=5.0),
    )
    image = jnp.full((8, 8, 1), 0.5)
    keys = jax.random.split(jax.random.key(1), 600)
    out = np.asarray(jax.jit(jax.vmap(OneOf(steps), (0, None)))(keys, image))
    grey, same = (out == 0).all(axis=(1, 2, 3)), (out == 0.5).all(axis=(1, 2, 3))
    counts = np.array([grey.sum(), same.sum(), (~grey & ~same).sum()])
    assert (abs(counts - 200) < 4 * np.sqrt(600 * 2 / 9)).all()  # four standard deviations


def test_a_chain_of_several_tasks_adds_a_field():
    augmentation = Degrade(to="shown", factor=1, steps=(OneOf((Hide(), Hide("strokes", 0.1, 0.3))),))
    field = Field("picture", (8, 8, 1), "uint8")
    assert augmentation.fields({"image": field})["shown"].shape == (8, 8, 1)
    batch = augmentation(KEYS[:4], {"image": jnp.full((4, 8, 8, 1), 255, jnp.uint8)})
    assert batch["shown"].shape == (4, 8, 8, 1)
    assert 0 < (batch["shown"] == 1).mean() < 1


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Hide("circle"), "shape = 'circle'"),
        (lambda: Hide(size_min=0.6, size_max=0.5), "size_max = 0.5; allowed are numbers of at least 0.6"),
        (lambda: Hide(fill="black"), "fill = 'black'"),
        (lambda: OneOf(()), "number of steps = 0"),
    ],
)
def test_misfits_are_refused(make, text):
    with pytest.raises(ValueError, match=text):
        make()
