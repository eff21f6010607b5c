"""Sinusoids against their formulas in plain Python, and random features against the kernel that they estimate."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.networks import Fourier, Sinusoidal


@pytest.mark.parametrize(
    ("embedding", "divisor", "sin_first"),
    [(Sinusoidal(), 7, True), (Sinusoidal(cos_first=True, endpoint=False), 8, False)],
)
@pytest.mark.parametrize("time", [0.0, 999.0, -1.55])
def test_sinusoidal_is_its_formula(embedding, divisor, sin_first, time):
    phases = [time * 10_000 ** (-i / divisor) for i in range(8)]
    sin, cos = [math.sin(p) for p in phases], [math.cos(p) for p in phases]
    expected = sin + cos if sin_first else cos + sin
    # float32 rounds a phase of up to 999 by 3e-5, once for the frequency and once for the product.
    np.testing.assert_allclose(embedding(jnp.array([time]), 16)[0], expected, atol=2e-4)


def test_max_period_is_the_longest_period():
    half_way = Sinusoidal(max_period=50.0)(jnp.array([math.pi * 50.0]), 8)[0]
    np.testing.assert_allclose([half_way[3], half_way[7]], [0.0, -1.0], atol=1e-5)


@pytest.mark.parametrize("embedding", [Sinusoidal(), Fourier(scale=0.01)])
def test_a_half_precision_time_is_embedded_in_float32(embedding):
    time = jnp.array([992.0], jnp.bfloat16)
    features = embedding(time, 16)
    assert features.dtype == jnp.float32
    np.testing.assert_array_equal(features, embedding(time.astype(jnp.float32), 16))


def test_fourier_features_estimate_the_gaussian_kernel():
    # E cos(2 pi f d) = exp(-2 (pi scale d)^2) for f ~ N(0, scale^2). A mean of n cosines has a standard deviation below
    # 1/sqrt(n), and the tolerance is four of them.
    n, scale, times = 20_000, 0.5, np.array([0.0, 0.1, 0.3, 1.0], np.float32)
    features = np.asarray(Fourier(scale)(jnp.asarray(times), n))
    assert features.shape == (4, 2 * n)
    kernel = np.exp(-2 * (np.pi * scale * (times[:, None] - times)) ** 2)
    np.testing.assert_allclose(features @ features.T / n, kernel, atol=4 / math.sqrt(n))


def test_fourier_frequencies_belong_to_the_seed():
    time = jnp.array([0.3])
    np.testing.assert_array_equal(Fourier()(time, 8), Fourier()(time, 8))
    assert not np.allclose(Fourier()(time, 8), Fourier(seed=1)(time, 8))


@pytest.mark.parametrize(
    ("embedding", "features"), [(Sinusoidal(), 7), (Sinusoidal(), 2), (Sinusoidal(endpoint=False), 0), (Fourier(), 0)]
)
def test_impossible_widths_are_refused(embedding, features):
    with pytest.raises(ValueError, match=f"features = {features}; allowed are"):
        embedding(jnp.zeros(1), features)
