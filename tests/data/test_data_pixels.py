import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxdiff.data import to_floats, to_uint8, to_unit
from jaxdiff.data.pixels import picture_to_array


def test_bytes_survive_the_round_trip():
    pixels = np.arange(256, dtype=np.uint8)
    unit = to_unit(pixels)
    assert unit.dtype == np.float32
    assert unit[0] == -1
    assert unit[255] == 1
    np.testing.assert_allclose(unit, np.arange(256) / 127.5 - 1, atol=1e-7)
    np.testing.assert_array_equal(to_uint8(unit), pixels)


@pytest.mark.parametrize("compiled", [False, True])
def test_every_byte_becomes_the_same_bits_in_numpy_and_jax(compiled):
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    # The nearest float32 number to each of the two roundings of p / 127.5 - 1.
    expected = np.float32(np.float32(np.arange(256) / 127.5).reshape(16, 16).astype(np.float64) - 1)
    ours = (jax.jit(to_floats) if compiled else to_floats)(jnp.asarray(pixels))
    for floats in (to_floats(pixels), np.asarray(ours)):
        assert floats.dtype == np.float32
        assert floats.tobytes() == expected.tobytes()


def test_floats_pass_unchanged_and_integers_are_refused():
    for floats in (np.zeros(3), jnp.ones(2, jnp.bfloat16)):
        assert to_floats(floats) is floats
    for integers in (np.arange(3), jnp.arange(3)):
        with pytest.raises(TypeError, match=r"x.dtype = int.*; allowed are uint8 and floating-point types"):
            to_floats(integers)


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


def test_padding_adds_white_on_both_sides():
    wide = np.full((10, 30, 3), [200, 0, 0], np.uint8)
    pixels = picture_to_array(Image.fromarray(wide), 3, size=9, fit="pad")
    expected = np.full((9, 9, 3), 255, np.uint8)
    expected[3:6] = [200, 0, 0]
    np.testing.assert_array_equal(pixels, expected)
    tall = picture_to_array(Image.fromarray(wide.transpose(1, 0, 2)), 3, size=9, fit="pad")
    np.testing.assert_array_equal(tall, expected.transpose(1, 0, 2))
    # A line of pixels keeps at least one pixel.
    line = picture_to_array(Image.fromarray(np.zeros((1, 100), np.uint8)), 1, size=5, fit="pad")
    assert (line == 0).sum() == 5


def test_resampling_keeps_the_mean_and_pictures_of_the_right_size():
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 1), np.uint8)
    picture = Image.fromarray(noise[..., 0])
    small = picture_to_array(picture, 1, size=8)
    assert small.shape == (8, 8, 1)
    assert abs(small.mean() - noise.mean()) < 2
    assert small.std() < noise.std() / 3  # averaged, not sampled
    np.testing.assert_array_equal(picture_to_array(picture, 1, size=64), noise)
