"""Blur and Sinc against SciPy's filters and against the formulas of their kernels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.special

from jaxdiff.augmentations.degradations import Blur, Sinc
from jaxdiff.augmentations.degradations.filters import filtered, random_square
from jaxdiff.augmentations.degradations.sinc import bessel_j1, low_pass

IMAGE = np.random.default_rng(0).uniform(-1, 1, (24, 17, 2)).astype(np.float32)
KEYS = jax.random.split(jax.random.key(0), 200)


def kernels(blur):
    drawn = np.asarray(jax.jit(jax.vmap(blur.kernel))(KEYS), np.float64)
    return drawn / drawn.sum((1, 2), keepdims=True)


def offsets(size):
    y, x = np.mgrid[:size, :size] - size // 2
    return x, y


def test_filters_correlate_and_reflect():
    kernel = np.random.default_rng(1).uniform(0, 1, (7, 7))
    expected = np.stack(
        [scipy.ndimage.correlate(c, kernel / kernel.sum(), mode="mirror") for c in IMAGE.transpose(2, 0, 1)], -1
    )
    np.testing.assert_allclose(jax.jit(filtered)(IMAGE, kernel), expected, atol=2e-6)


def test_blur_is_a_gaussian_filter():
    out = jax.jit(Blur(1.5, 1.5, 21, 21))(jax.random.key(0), IMAGE)
    expected = scipy.ndimage.gaussian_filter(IMAGE, 1.5, axes=(0, 1), mode="mirror", radius=10)
    np.testing.assert_allclose(out, expected, atol=2e-6)


def test_sizes_are_odd_and_from_the_range():
    inside = np.asarray(jax.jit(jax.vmap(lambda key: random_square(key, 7, 13)))(KEYS))
    assert set(inside.sum((1, 2))) == {49, 81, 121, 169}
    # Each is a square about the centre.
    x, y = offsets(13)
    for square in inside:
        np.testing.assert_array_equal(square, np.maximum(abs(x), abs(y)) <= (np.sqrt(square.sum()) - 1) / 2)


def test_anisotropic_gaussians_have_two_standard_deviations_and_a_direction():
    drawn = kernels(Blur(1.0, 2.0, 21, 21, anisotropic=0.6))
    x, y = offsets(21)
    xx, yy, xy = (np.sum(drawn * m, (1, 2)) for m in (x * x, y * y, x * y))
    spread = np.sqrt(((xx - yy) / 2) ** 2 + xy**2)
    sigmas = np.sqrt(np.stack([(xx + yy) / 2 - spread, (xx + yy) / 2 + spread]))
    assert sigmas.min() > 0.99
    assert sigmas.max() < 2.01
    two = spread > 1e-4
    assert abs(two.mean() - 0.6) < 4.5 * np.sqrt(0.24 / 200)
    # The direction is uniform: the mean of its double is 0, with the standard error of a coordinate on the circle.
    direction = np.stack([(xx - yy) / 2, xy])[:, two] / spread[two]
    assert np.abs(direction.mean(1)).max() < 4.5 / np.sqrt(2 * two.sum())
    # Gaussians: the logarithm is a quadratic form with the inverse covariance.
    for i in range(5):
        inverse = np.linalg.inv([[xx[i], xy[i]], [xy[i], yy[i]]])
        q = inverse[0, 0] * x * x + 2 * inverse[0, 1] * x * y + inverse[1, 1] * y * y
        np.testing.assert_allclose(drawn[i] / drawn[i, 10, 10], np.exp(-q / 2), atol=2e-3)


@pytest.mark.parametrize(
    ("kind", "exponent_of", "low", "high"),
    [("generalised", lambda k: -2 * np.log(k), 0.5, 4.0), ("plateau", lambda k: 1 / k - 1, 1.0, 2.0)],
)
def test_other_kernels_fall_off_with_a_random_power(kind, exponent_of, low, high):
    drawn = kernels(Blur(2.0, 2.0, 21, 21, **{kind: 1.0}))
    profile = drawn[:, 10, 10:] / drawn[:, 10, 10:11]
    # q^beta with q = (r / 2)^2 is 1 at r = 2; at r = 3 it tells beta.
    np.testing.assert_allclose(exponent_of(profile[:, 2]), 1, rtol=1e-5)
    beta = np.log(exponent_of(profile[:, 3])) / np.log(9 / 4)
    assert beta.min() >= low - 1e-3
    assert beta.max() <= high + 1e-3
    assert abs(beta.mean() - (low + high) / 2) < 4.5 * (high - low) / np.sqrt(12 * 200)
    # Wherever the kernel is not so small that rounding matters.
    r = np.arange(11)
    expected = (r[None] / 2.0) ** (2 * beta[:, None])
    seen = profile > 1e-2
    np.testing.assert_allclose(exponent_of(profile[seen]), expected[seen], atol=1e-4, rtol=1e-3)


def test_bessel_function():
    z = np.linspace(0, np.pi * 21 / np.sqrt(2), 500)
    np.testing.assert_allclose(bessel_j1(jnp.asarray(z, jnp.float32), 21), scipy.special.j1(z), atol=2e-6)


def test_sinc_kernel_is_the_formula():
    x, y = offsets(9)
    r = np.hypot(x, y)
    r[4, 4] = 1e-9
    expected = 1.1 / (2 * np.pi * r) * scipy.special.j1(1.1 * r)
    np.testing.assert_allclose(jax.jit(low_pass, static_argnums=1)(1.1, 9), expected, atol=1e-6)


def test_sinc_passes_low_and_stops_high_frequencies():
    y, x = np.mgrid[:64, :64]
    passes, stops = (np.cos(w * (0.6 * x + 0.8 * y))[..., None].astype(np.float32) for w in (0.2 * np.pi, 0.8 * np.pi))
    sinc = jax.jit(Sinc(0.5, 0.5, 31, 31))
    low, high = (np.asarray(sinc(jax.random.key(0), image))[16:48, 16:48] for image in (passes, stops))
    # The kernel is cut off at 15 pixels, so that several percent are left.
    np.testing.assert_allclose(low, passes[16:48, 16:48], atol=0.1)
    assert np.abs(high).max() < 0.1
    edge = np.where(x < 32, -1.0, 1.0)[..., None].astype(np.float32)
    # Gibbs: an ideal low-pass filter overshoots an edge by 9 percent of the jump.
    assert 1.1 < np.asarray(sinc(jax.random.key(0), edge))[24:40].max() < 1.25
