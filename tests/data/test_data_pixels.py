import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxdiff.data import to_uint8, to_unit
from jaxdiff.data.pixels import picture_to_array


def test_bytes_survive_the_round_trip():
    pixels = np.arange(256, dtype=np.uint8)
    unit = to_unit(pixels)
    assert unit.dtype == np.float32
    assert unit[0] == -1
    assert unit[255] == 1
    np.testing.assert_allclose(unit, np.arange(256) / 127.5 - 1, atol=1e-7)
    np.testing.assert_array_equal(to_uint8(unit), pixels)


def test_to_uint8_rounds_to_the_nearest_and_clips():
    step = 1 / 127.5
    values = np.array([-7.0, -1.0, -1 + 0.49 * step, -1 + 0.51 * step, 1.0, 7.0, np.inf, -np.inf])
    np.testing.assert_array_equal(to_uint8(values), [0, 0, 0, 1, 255, 255, 255, 0])


def test_to_uint8_takes_jax_arrays_of_any_width():
    for dtype in (jnp.float32, jnp.bfloat16, jnp.float16):
        np.testing.assert_array_equal(to_uint8(jnp.array([-1.0, 1.0], dtype)), [0, 255])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: to_unit(np.zeros(3)), TypeError, "pixels.dtype = float64; allowed are uint8"),
        (lambda: to_uint8(np.zeros(3, np.uint8)), TypeError, "values.dtype = uint8; allowed are floating-point types"),
        (lambda: to_uint8(np.array([0.0, np.nan])), ValueError, "values = nan; allowed are numbers"),
        (lambda: picture_to_array(Image.fromarray(np.zeros((2, 2), np.float32)), 1), ValueError, "mode = 'F'"),
    ],
)
def test_wrong_arguments_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_16_bit_greyscale_is_scaled_and_not_clipped():
    sixteen = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    picture = Image.fromarray(sixteen)
    assert picture.mode.startswith("I;16")
    np.testing.assert_array_equal(picture_to_array(picture, 1)[..., 0].ravel(), np.arange(256))


def test_transparency_becomes_white():
    rgba = np.zeros((2, 2, 4), np.uint8)
    rgba[0, 0] = [10, 20, 30, 255]
    pixels = picture_to_array(Image.fromarray(rgba), 3)
    np.testing.assert_array_equal(pixels[0, 0], [10, 20, 30])
    np.testing.assert_array_equal(pixels[1, 1], [255, 255, 255])


def test_size_crops_the_centred_square():
    # A red square in the middle of a wide green picture: no green may be left.
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, :, 1] = 200
    wide[:, 10:20] = [200, 0, 0]
    pixels = picture_to_array(Image.fromarray(wide), 3, size=5)
    np.testing.assert_array_equal(pixels, np.broadcast_to(np.uint8([200, 0, 0]), (5, 5, 3)))
    tall = picture_to_array(Image.fromarray(wide.transpose(1, 0, 2)), 3, size=5)
    np.testing.assert_array_equal(tall, pixels)


def test_resampling_keeps_the_mean_and_pictures_of_the_right_size():
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 1), np.uint8)
    picture = Image.fromarray(noise[..., 0])
    small = picture_to_array(picture, 1, size=8)
    assert small.shape == (8, 8, 1)
    assert abs(small.mean() - noise.mean()) < 2
    assert small.std() < noise.std() / 3  # averaged, not sampled
    np.testing.assert_array_equal(picture_to_array(picture, 1, size=64), noise)
