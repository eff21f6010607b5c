"""EDM's augmentation against flips, analytic affine maps and the distributions of the paper's table."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.augmentations import AUGMENTATION_FEATURES, augment
from jaxdiff.augmentations.edm import draw_parameters, features_of, transform

transform = jax.jit(transform)
augment_jit = jax.jit(augment)


def parameters(**values: float):
    names = ("mirror", "upside_down", "scale", "turn", "direction", "stretch", "right", "down")
    assert set(values) <= set(names)
    return jnp.asarray([values.get(name, 0.0) for name in names], jnp.float32)


def noise(height: int, width: int, channels: int = 2):
    return np.random.default_rng(0).uniform(-1, 1, (height, width, channels)).astype(np.float32)


def moved_back(matrix, shift, height, width):
    """The source position of each pixel of the result, relative to the centre: float64 `[2, height, width]`."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    v = np.stack([x - (width - 1) / 2 - shift[0], y - (height - 1) / 2 - shift[1]])
    return np.einsum("ij,jyx->iyx", np.linalg.inv(matrix), v)


def rotation(angle):
    """An anti-clockwise rotation in coordinates (x, y) with y downwards."""
    return np.asarray([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def test_nothing_happens_at_probability_0():
    images = jnp.stack([noise(8, 8)] * 32)
    out, features = augment_jit(jax.random.key(0), images, 0.0)
    np.testing.assert_array_equal(out, images)
    np.testing.assert_array_equal(features, np.zeros((32, AUGMENTATION_FEATURES)))


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        ({}, lambda x: x),
        ({"mirror": 1}, lambda x: x[:, ::-1]),
        ({"upside_down": 1}, lambda x: x[::-1]),
        ({"mirror": 1, "upside_down": 1}, lambda x: x[::-1, ::-1]),
    ],
)
def test_mirrors_are_exact(which, expected):
    image = noise(8, 16)
    np.testing.assert_array_equal(transform(image, parameters(**which)), expected(image))


@pytest.mark.parametrize("size", [8, 9])
@pytest.mark.parametrize("quarters", [-2, -1, 1, 2])
def test_quarter_turns_move_pixels_onto_pixels(quarters, size):
    image = noise(size, size)
    # numpy.rot90 turns an image anti-clockwise.
    expected = np.rot90(image, quarters)
    np.testing.assert_allclose(transform(image, parameters(turn=quarters * np.pi / 2)), expected, atol=2e-5)


@pytest.mark.parametrize(("right", "down"), [(3, 0), (0, -2), (-5, 4), (17, 1)])
def test_whole_pixels_are_moved_exactly_and_the_border_reflects(right, down):
    image = noise(8, 16)
    # numpy.pad's "reflect" defines the values beyond the border.
    padded = np.pad(image, ((20, 20), (20, 20), (0, 0)), mode="reflect")
    expected = padded[20 - down : 28 - down, 20 - right : 36 - right]
    # A unit shifts by 1/8 of the side, which is exact in binary here.
    np.testing.assert_array_equal(transform(image, parameters(right=right / 2, down=down)), expected)


# Each row: parameters, and the matrix that the table gives for them.
DEFORMATIONS = [
    ({"turn": 0.7}, rotation(0.7)),
    ({"scale": 1.0}, 2**0.2 * np.eye(2)),
    ({"stretch": 1.5}, np.diag([2**0.3, 2**-0.3])),
    ({"direction": np.pi / 2, "stretch": 1.5}, np.diag([2**-0.3, 2**0.3])),
    ({"direction": -0.4, "stretch": -1.0}, rotation(0.4) @ np.diag([2**-0.2, 2**0.2]) @ rotation(-0.4)),
    ({"scale": 0.5, "turn": 2.0, "direction": 1.0, "stretch": 0.5},
     rotation(-1.0) @ np.diag([2**0.1, 2**-0.1]) @ rotation(1.0) @ (2**0.1 * rotation(2.0))),
]  # fmt: skip


@pytest.mark.parametrize(("which", "matrix"), DEFORMATIONS)
@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.3, -0.2)])
def test_a_smooth_picture_follows_the_affine_map(which, matrix, shift):
    height, width = 40, 32

    def picture(x, y):
        return np.stack([np.sin(0.35 * x + 0.2 * y), 0.02 * x - 0.03 * y], -1)

    y, x = np.mgrid[:height, :width].astype(np.float64)
    image = picture(x - (width - 1) / 2, y - (height - 1) / 2).astype(np.float32)
    out = transform(image, parameters(**which, right=shift[0], down=shift[1]))
    source = moved_back(matrix, (shift[0] * width / 8, shift[1] * height / 8), height, width)
    # Away from the border, beyond which the image is not the picture but its reflection.
    inside = (np.abs(source[0]) < width / 2 - 6) & (np.abs(source[1]) < height / 2 - 6)
    assert inside.sum() > 200
    shrinks = which.get("stretch", 0) != 0
    # A kernel that is widened for shrinking smooths; otherwise the interpolation is of fourth order.
    np.testing.assert_allclose(out[inside], picture(*source)[inside], atol=0.03 if shrinks else 6e-4)


def test_interpolation_is_exact_for_cubic_polynomials():
    side, angle = 48, 0.5

    def picture(x, y):
        return ((x / 20) ** 3 - 0.5 * (x / 20) ** 2 * (y / 20) + (y / 20) ** 3 + x / 20 - 0.3)[..., None]

    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    source = moved_back(rotation(angle), (0, 0), side, side)
    inside = (np.abs(source) < side / 2 - 4).all(0)
    out = transform(picture(x, y).astype(np.float32), parameters(turn=angle))
    np.testing.assert_allclose(out[inside], picture(*source)[inside], atol=2e-5)


def test_shrinking_does_not_alias():
    side = 48
    x = np.arange(side) - (side - 1) / 2 + np.zeros((side, 1))
    # Scale -5 halves the image. In the source, the highest frequency of the result is pi/2; the image has 0.85 pi.
    image = np.cos(0.85 * np.pi * x + 0.3)[..., None].astype(np.float32)
    out = np.asarray(transform(image, parameters(scale=-5)))[20:28, 20:28]
    assert np.abs(image).max() > 0.99
    assert np.abs(out).max() < 0.12
    # The mean of an image is kept.
    flat = transform(np.full((side, side, 1), 0.7, np.float32), parameters(scale=-5, turn=0.3))
    np.testing.assert_allclose(flat, 0.7, rtol=1e-5)


def test_two_turns_equal_one_turn_by_the_sum():
    side = 48
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    image = (np.exp(-(x**2 + (y - 6) ** 2) / 40) + 0.5 * np.exp(-((x + 5) ** 2 + y**2) / 30))[..., None]
    image = image.astype(np.float32)
    twice = transform(transform(image, parameters(turn=0.5)), parameters(turn=-1.4))
    inside = np.hypot(x, y) < side / 2 - 6  # values from beyond the border do not reach these pixels
    np.testing.assert_allclose(twice[inside], transform(image, parameters(turn=-0.9))[inside], atol=1e-3)


def test_features_determine_the_transformation():
    told = np.asarray(features_of(parameters(mirror=1, scale=-0.5, turn=2.0, direction=-1.0, stretch=0.5, down=3.0)))
    expected = [1, 0, -0.5, np.cos(2) - 1, np.sin(2), 0.5 * np.cos(1), -0.5 * np.sin(1), 0, 3]
    np.testing.assert_allclose(told, expected, rtol=1e-6)
    np.testing.assert_array_equal(features_of(parameters()), np.zeros(9))
    # The parameters recovered from the features repeat the transformation, for one sign of the stretch.
    images = jnp.asarray(np.stack([noise(8, 8)] * 32))
    out, features = augment_jit(jax.random.key(1), images, 0.5)
    assert features.shape == (32, AUGMENTATION_FEATURES)
    for image, f in zip(out, np.asarray(features, np.float64), strict=True):
        turn, angle = np.arctan2(f[4], f[3] + 1), np.arctan2(f[6], f[5])
        size, distances = np.hypot(f[5], f[6]), []
        for direction, stretch in ((angle, size), (angle + np.pi, -size)):
            found = parameters(
                mirror=f[0], upside_down=f[1], scale=f[2], turn=turn, direction=direction,
                stretch=stretch, right=f[7], down=f[8],
            )  # fmt: skip
            distances.append(np.abs(image - transform(noise(8, 8), found)).max())
        assert min(distances) < 1e-3


def test_parameters_are_drawn_as_the_table_says():
    n, p = 40_000, 0.12
    keys = jax.random.split(jax.random.key(3), n)
    drawn = np.asarray(jax.jit(jax.vmap(functools.partial(draw_parameters, probability=p)))(keys))
    happened = drawn != 0

    def near(rate, expected):
        assert abs(rate - expected) < 4.5 * np.sqrt(expected * (1 - expected) / n)

    near(happened[:, 0].mean(), 0.5)
    near(happened[:, 1].mean(), p / 2)
    for i in range(2, 8):
        near(happened[:, i].mean(), p)
    # The two parameters of one transformation are drawn together; different transformations are independent.
    np.testing.assert_array_equal(happened[:, 4], happened[:, 5])
    np.testing.assert_array_equal(happened[:, 6], happened[:, 7])
    rates = {0: 0.5, 1: p / 2, 2: p, 3: p, 4: p, 6: p}
    for i, j in itertools.combinations(rates, 2):
        near((happened[:, i] & happened[:, j]).mean(), rates[i] * rates[j])
    assert set(np.unique(drawn[:, :2])) == {0, 1}
    # Moments of N(0, 1) and U(-pi, pi), within 4.5 standard errors (two-sided probability 7e-6).
    for i in (2, 5, 6, 7):
        values = drawn[happened[:, i], i]
        assert abs(values.mean()) < 4.5 / np.sqrt(len(values))
        assert abs((values**2).mean() - 1) < 4.5 * np.sqrt(2 / len(values))
    for i in (3, 4):
        values = drawn[happened[:, i], i]
        assert np.abs(values).max() <= np.float32(np.pi)
        assert abs(values.mean()) < 4.5 * np.pi / np.sqrt(3 * len(values))
        assert abs((values**2).mean() - np.pi**2 / 3) < 4.5 * np.pi**2 * np.sqrt(4 / 45 / len(values))
    both = drawn[happened[:, 6]]
    assert abs((both[:, 6] * both[:, 7]).mean()) < 4.5 / np.sqrt(len(both))


def test_an_image_depends_on_its_own_key_alone():
    images = np.random.default_rng(1).uniform(-1, 1, (32, 8, 8, 2)).astype(np.float32)
    key = jax.random.key(4)
    whole, features = augment_jit(key, images, 0.8)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(32))
    moved = np.random.default_rng(2).permutation(32)
    for order in (np.arange(32), moved, moved // 2):
        out, told = augment_jit(keys[order], images[order], 0.8)
        np.testing.assert_array_equal(told, features[order])
        np.testing.assert_allclose(out, whole[order], atol=1e-6)
    again, _ = augment_jit(key, images, 0.8)
    np.testing.assert_array_equal(again, whole)
    assert not np.array_equal(augment_jit(jax.random.key(5), images, 0.8)[1], features)


def test_low_precision_images_keep_their_dtype():
    images = jnp.asarray(np.stack([noise(8, 8)] * 8), jnp.bfloat16)
    out, features = jax.eval_shape(augment, jax.random.key(0), images, 0.5)
    assert (out.dtype, features.dtype) == (jnp.bfloat16, jnp.float32)


@pytest.mark.parametrize(
    ("error", "message", "key", "images", "probability"),
    [
        (TypeError, "images.dtype = uint8; allowed are floating-point types", jax.random.key(0), np.zeros((2, 8, 8, 1), np.uint8), 0.1),
        (ValueError, r"images.shape = \(8, 8, 1\); allowed are \[batch", jax.random.key(0), np.zeros((8, 8, 1), np.float32), 0.1),
        (ValueError, r"images.shape = \(2, 3, 8, 1\)", jax.random.key(0), np.zeros((2, 3, 8, 1), np.float32), 0.1),
        (ValueError, "probability = 1.5; allowed are numbers from 0 to 1", jax.random.key(0), np.zeros((2, 8, 8, 1), np.float32), 1.5),
        (ValueError, "probability = nan", jax.random.key(0), np.zeros((2, 8, 8, 1), np.float32), float("nan")),
        (ValueError, r"key\.?.*shape.* \(3,\)", jax.random.split(jax.random.key(0), 3), np.zeros((2, 8, 8, 1), np.float32), 0.1),
        (TypeError, "key = 0", 0, np.zeros((2, 8, 8, 1), np.float32), 0.1),
    ],
)  # fmt: skip
def test_wrong_arguments_are_named(error, message, key, images, probability):
    with pytest.raises(error, match=message):
        augment(key, images, probability)
