"""Resampling against its defining sums, its transpose, and known results of averaging and interpolation."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.networks.layers.resampling import downsample, upsample

BOX, SMOOTH = (1, 1), (1, 3, 3, 1)


def halving_matrix(n, taps):
    """Row i of the sum that defines `downsample` on an axis of even length n."""
    matrix, pad = np.zeros((n // 2, n)), len(taps) // 2 - 1
    for i in range(n // 2):
        for k, tap in enumerate(taps):
            if 0 <= 2 * i + k - pad < n:
                matrix[i, 2 * i + k - pad] += tap / sum(taps)
    return matrix


@pytest.mark.parametrize("taps", [BOX, SMOOTH, (1, 2, 3, 4, 5, 6)])
def test_both_directions_are_their_defining_sums(taps):
    x = np.random.default_rng(0).standard_normal((2, 6, 8, 3)).astype(np.float32)
    rows, columns = halving_matrix(6, taps), halving_matrix(8, taps)
    half = np.einsum("ah,bw,nhwc->nabc", rows, columns, x)
    np.testing.assert_allclose(downsample(x, taps), half, atol=1e-6)
    transposed = 4 * np.einsum("ah,bw,nabc->nhwc", rows, columns, half)
    np.testing.assert_allclose(upsample(jnp.asarray(half, jnp.float32), (6, 8), taps), transposed, atol=1e-6)


def test_the_box_averages_and_repeats():
    x = np.random.default_rng(1).standard_normal((1, 4, 4, 4, 2)).astype(np.float32)
    half = x.reshape(1, 2, 2, 2, 2, 2, 2, 2).mean((2, 4, 6))
    np.testing.assert_allclose(downsample(x), half, atol=1e-6)
    repeated = half.repeat(2, 1).repeat(2, 2).repeat(2, 3)
    np.testing.assert_array_equal(upsample(jnp.asarray(half), (4, 4, 4)), repeated)


def test_the_smooth_filter_interpolates_a_line():
    x = jnp.arange(8.0).reshape(1, 8, 1)
    centres = (np.arange(16) - 0.5) / 2
    np.testing.assert_allclose(upsample(x, (16,), SMOOTH)[0, 1:-1, 0], centres[1:-1], atol=1e-6)


@pytest.mark.parametrize("taps", [BOX, SMOOTH])
def test_a_shift_by_two_pixels_is_a_shift_by_one_after_halving(taps):
    x = np.random.default_rng(2).standard_normal((1, 16, 1)).astype(np.float32)
    np.testing.assert_allclose(
        downsample(np.roll(x, 2, axis=1), taps)[:, 3:-1], downsample(x, taps)[:, 2:-2], atol=1e-6
    )


@pytest.mark.parametrize("n", [1, 2, 7])
def test_any_length_is_kept_down_and_up(n):
    x = jnp.ones((1, n, 5, 1))
    half = downsample(x)
    assert half.shape == (1, (n + 1) // 2, 3, 1)
    np.testing.assert_array_equal(upsample(half, (n, 5)), x)


def test_the_last_pixel_of_an_odd_axis_is_repeated():
    np.testing.assert_allclose(downsample(jnp.array([1.0, 3.0, 5.0]).reshape(1, 3, 1)).ravel(), [2.0, 5.0])


@pytest.mark.parametrize("taps", [(), (1, 2, 1), (1, -1)])
def test_filters_of_odd_length_or_zero_sum_are_refused(taps):
    with pytest.raises(ValueError, match="taps = "):
        downsample(jnp.ones((1, 4, 1)), taps)


@pytest.mark.parametrize("size", [(4,), (7,), (5, 5)])
def test_sizes_that_do_not_fit_are_refused(size):
    with pytest.raises(ValueError, match="size = "):
        upsample(jnp.ones((1, 3, 1)), size)
