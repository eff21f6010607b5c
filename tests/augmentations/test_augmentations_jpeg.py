"""JPEG compression against the encoder and the decoder of PIL, which are libjpeg."""

import functools
import io

import jax
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

from jaxdiff.augmentations.degradations import Jpeg
from jaxdiff.posterior.operators.jpeg import CHROMINANCE, LUMINANCE, compress, scaled

QUALITIES = (5, 10, 50, 75, 95, 100)
compressed = jax.jit(compress, static_argnums=2)


@functools.cache
def pictures():
    """A smooth picture, a photograph and a grey photograph, whose sides are not multiples of 8."""
    y, x = np.mgrid[:75, :101]
    smooth = np.stack([128 + 100 * np.sin(x / 20 + y / 31), 128 + 90 * np.cos(y / 17), 30.0 + x], -1)
    photograph = load_sample_image("china.jpg")[150:225, 250:351]
    return {"smooth": smooth.round().astype(np.uint8), "photograph": photograph, "grey": photograph[..., 1:2]}


def written_and_read(picture, quality, subsampled):
    file = io.BytesIO()
    Image.fromarray(picture.squeeze()).save(file, "JPEG", quality=quality, subsampling=2 if subsampled else 0)
    with Image.open(file) as read:
        return np.asarray(read).reshape(picture.shape).astype(float), read.quantization


@pytest.mark.parametrize("subsampled", [True, False])
@pytest.mark.parametrize("name", ["smooth", "photograph", "grey"])
def test_pixels_are_those_of_a_file(name, subsampled):
    picture = pictures()[name]
    for quality in QUALITIES:
        expected, _ = written_and_read(picture, quality, subsampled)
        ours = np.asarray(compressed(picture.astype(np.float32), quality, subsampled))
        np.testing.assert_array_equal(ours, expected)


def test_tables_are_those_of_a_file():
    for quality in (1, 10, 49, 50, 51, 75, 99, 100):
        _, tables = written_and_read(pictures()["smooth"], quality, True)
        for number, table in enumerate((LUMINANCE, CHROMINANCE)):
            np.testing.assert_array_equal(np.ravel(scaled(table, quality)), tables[number])


def test_the_quality_is_drawn_from_the_range():
    picture = pictures()["grey"][:32, :32]
    image = picture.astype(np.float32) / 127.5 - 1
    keys = jax.random.split(jax.random.key(0), 40)
    out = np.asarray(jax.jit(jax.vmap(Jpeg(50, 52), (0, None)))(keys, image))
    expected = [compressed(picture.astype(np.float32), q, True) / 127.5 - 1 for q in (50, 51, 52)]
    which = np.asarray([[np.abs(o - e).mean() < 1e-3 for e in expected] for o in out])
    np.testing.assert_array_equal(which.sum(1), 1)
    assert which.any(0).all()
    assert out.dtype == np.float32
