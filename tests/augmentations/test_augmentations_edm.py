"""The transformations are held to flips, to analytic affine maps and to the distributions of the paper's table."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.augmentations import AUGMENTATION_FEATURES, augment
from jaxdiff.augmentations.edm import draw_parameters, labels_of, resample, transform

resample = jax.jit(resample)
transform = jax.jit(transform)
augment_jit = jax.jit(augment)


def parameters(**values: float):
    names = ("mirror", "upside_down", "scale", "turn", "direction", "stretch", "right", "down")
    assert set(values) <= set(names)
    return jnp.asarray([values.get(name, 0.0) for name in names], jnp.float32)


def noise(height: int, width: int, channels: int = 2):
    return np.random.default_rng(0).uniform(-1, 1, (height, width, channels)).astype(np.float32)


def moved_back(matrix, shift, height, width):
    """Where, relative to the centre, each pixel of the result comes from: float64 `[height, width]` each."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    v = np.stack([x - (width - 1) / 2 - shift[0], y - (height - 1) / 2 - shift[1]])
    return np.einsum("ij,jyx->iyx", np.linalg.inv(matrix), v)


def rotation(angle):
    """Anti-clockwise as seen, for (x, y) with y downwards."""
    return np.asarray([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def test_nothing_happens_at_probability_0():
    images = jnp.stack([noise(8, 8)] * 32)
    out, labels = augment_jit(jax.random.key(0), images, 0.0)
    np.testing.assert_array_equal(out, images)
    np.testing.assert_array_equal(labels, np.zeros((32, AUGMENTATION_FEATURES)))


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
    image = noise(7, 10)
    np.testing.assert_array_equal(transform(image, parameters(**which)), expected(image))


@pytest.mark.parametrize("size", [8, 9])
@pytest.mark.parametrize("quarters", [-2, -1, 1, 2])
def test_quarter_turns_move_pixels_onto_pixels(quarters, size):
    image = noise(size, size)
    # numpy.rot90 turns anti-clockwise as seen when rows go down.
    expected = np.rot90(image, quarters)
    np.testing.assert_allclose(transform(image, parameters(turn=quarters * np.pi / 2)), expected, atol=2e-5)


@pytest.mark.parametrize(("right", "down"), [(3, 0), (0, -2), (-5, 4), (17, 1)])
def test_whole_pixels_are_moved_exactly_and_the_border_reflects(right, down):
    image = noise(8, 16)
    # numpy.pad's "reflect" is the definition of what lies beyond the border.
    padded = np.pad(image, ((20, 20), (20, 20), (0, 0)), mode="reflect")
    expected = padded[20 - down : 28 - down, 20 - right : 36 - right]
    # A shift is 1/8 of the side per unit: exact in binary here.
    np.testing.assert_array_equal(transform(image, parameters(right=right / 2, down=down)), expected)


# Each row: parameters, and the matrix they stand for by the table, composed in its order.
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
def test_a_smooth_picture_is_moved_as_the_map_says(which, matrix, shift):
    height, width = 40, 32

    def picture(x, y):
        return np.stack([np.sin(0.35 * x + 0.2 * y), 0.02 * x - 0.03 * y], -1)

    y, x = np.mgrid[:height, :width].astype(np.float64)
    image = picture(x - (width - 1) / 2, y - (height - 1) / 2).astype(np.float32)
    out = transform(image, parameters(**which, right=shift[0], down=shift[1]))
    source = moved_back(matrix, (shift[0] * width / 8, shift[1] * height / 8), height, width)
    # Away from the border, where the picture is its own continuation.
    inside = (np.abs(source[0]) < width / 2 - 6) & (np.abs(source[1]) < height / 2 - 6)
    assert inside.sum() > 200
    shrinks = which.get("stretch", 0) != 0
    # Widened for shrinking, the kernel is smoother than an interpolating one, which is of fourth order.
    np.testing.assert_allclose(out[inside], picture(*source)[inside], atol=0.03 if shrinks else 6e-4)


def test_interpolation_is_exact_for_cubic_polynomials():
    side, angle = 24, 0.5

    def picture(x, y):
        return ((x / 10) ** 3 - 0.5 * (x / 10) ** 2 * (y / 10) + (y / 10) ** 3 + x / 10 - 0.3)[..., None]

    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    source = moved_back(rotation(angle), (0, 0), side, side)
    inside = (np.abs(source) < side / 2 - 4).all(0)
    out = transform(picture(x, y).astype(np.float32), parameters(turn=angle))
    np.testing.assert_allclose(out[inside], picture(*source)[inside], atol=2e-5)


def test_shrinking_does_not_alias():
    side, factor = 32, 0.5
    x = np.arange(side) - (side - 1) / 2 + np.zeros((side, 1))
    # Between the highest frequency of the result, seen from the source (pi/2), and that of the source (pi).
    image = np.cos(0.85 * np.pi * x + 0.3)[..., None].astype(np.float32)
    out = np.asarray(resample(image, factor * jnp.eye(2), jnp.zeros(2)))[12:20, 12:20]
    assert np.abs(image).max() > 0.99
    assert np.abs(out).max() < 0.12
    # The mean of a picture survives.
    flat = resample(np.full((side, side, 1), 0.7, np.float32), factor * rotation(0.3), jnp.zeros(2))
    np.testing.assert_allclose(flat, 0.7, rtol=1e-5)


def test_two_turns_are_the_turn_by_their_sum():
    side = 48
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    image = (np.exp(-(x**2 + (y - 6) ** 2) / 40) + 0.5 * np.exp(-((x + 5) ** 2 + y**2) / 30))[..., None]
    image = image.astype(np.float32)
    twice = transform(transform(image, parameters(turn=0.5)), parameters(turn=-1.4))
    inside = np.hypot(x, y) < side / 2 - 6  # what lies beyond the border never gets there
    np.testing.assert_allclose(twice[inside], transform(image, parameters(turn=-0.9))[inside], atol=1e-3)


def test_labels_tell_of_what_was_done():
    told = np.asarray(labels_of(parameters(mirror=1, scale=-0.5, turn=2.0, direction=-1.0, stretch=0.5, down=3.0)))
    expected = [1, 0, -0.5, np.cos(2) - 1, np.sin(2), 0.5 * np.cos(1), -0.5 * np.sin(1), 0, 3]
    np.testing.assert_allclose(told, expected, rtol=1e-6)
    np.testing.assert_array_equal(labels_of(parameters()), np.zeros(9))
    # Whatever was drawn, the parameters read off the labels do it again, but for the sign that they leave open.
    images = jnp.asarray(np.stack([noise(8, 8)] * 32))
    out, labels = augment_jit(jax.random.key(1), images, 0.5)
    assert labels.shape == (32, AUGMENTATION_FEATURES)
    for image, label in zip(out, np.asarray(labels, np.float64), strict=True):
        turn, angle = np.arctan2(label[4], label[3] + 1), np.arctan2(label[6], label[5])
        size, distances = np.hypot(label[5], label[6]), []
        for direction, stretch in ((angle, size), (angle + np.pi, -size)):
            found = parameters(
                mirror=label[0], upside_down=label[1], scale=label[2], turn=turn, direction=direction,
                stretch=stretch, right=label[7], down=label[8],
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
    # What belongs together happens together; all else independently.
    np.testing.assert_array_equal(happened[:, 4], happened[:, 5])
    np.testing.assert_array_equal(happened[:, 6], happened[:, 7])
    rates = {0: 0.5, 1: p / 2, 2: p, 3: p, 4: p, 6: p}
    for i, j in itertools.combinations(rates, 2):
        near((happened[:, i] & happened[:, j]).mean(), rates[i] * rates[j])
    assert set(np.unique(drawn[:, :2])) == {0, 1}
    # Moments of N(0, 1) and U(-pi, pi), within 4.5 standard errors.
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
    whole, labels = augment_jit(key, images, 0.8)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(32))
    moved = np.random.default_rng(2).permutation(32)
    for order in (np.arange(32), moved, moved // 2):
        out, told = augment_jit(keys[order], images[order], 0.8)
        np.testing.assert_array_equal(told, labels[order])
        np.testing.assert_allclose(out, whole[order], atol=1e-6)
    again, _ = augment_jit(key, images, 0.8)
    np.testing.assert_array_equal(again, whole)
    assert not np.array_equal(augment_jit(jax.random.key(5), images, 0.8)[1], labels)


def test_low_precision_images_stay_of_their_type():
    images = jnp.asarray(np.stack([noise(8, 8)] * 8), jnp.bfloat16)
    out, labels = jax.eval_shape(augment, jax.random.key(0), images, 0.5)
    assert (out.dtype, labels.dtype) == (jnp.bfloat16, jnp.float32)


@pytest.mark.parametrize(
    ("error", "message", "key", "images", "probability"),
    [
        (TypeError, "images has dtype uint8", jax.random.key(0), np.zeros((2, 8, 8, 1), np.uint8), 0.1),
        (ValueError, r"images has shape \(8, 8, 1\)", jax.random.key(0), np.zeros((8, 8, 1), np.float32), 0.1),
        (ValueError, r"images has shape \(2, 3, 8, 1\)", jax.random.key(0), np.zeros((2, 3, 8, 1), np.float32), 0.1),
        (ValueError, "probability = 1.5", jax.random.key(0), np.zeros((2, 8, 8, 1), np.float32), 1.5),
        (ValueError, "probability = nan", jax.random.key(0), np.zeros((2, 8, 8, 1), np.float32), float("nan")),
        (ValueError, r"key has shape \(3,\)", jax.random.split(jax.random.key(0), 3), np.zeros((2, 8, 8, 1), np.float32), 0.1),
        (TypeError, "key = 0", 0, np.zeros((2, 8, 8, 1), np.float32), 0.1),
    ],
)  # fmt: skip
def test_wrong_arguments_are_named(error, message, key, images, probability):
    with pytest.raises(error, match=message):
        augment(key, images, probability)
