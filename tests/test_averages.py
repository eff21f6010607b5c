"""Rules of moving averages against hand computations, closed forms and their own definitions."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import averages


def run_ema(rule, values, start=0.0):
    """The average after each of `values`, given to the update as the parameters of steps 1, 2, ..."""

    def body(average, item):
        number, value = item
        average = averages.update({"w": average}, {"w": value}, rule(number))["w"]
        return average, average

    values = jnp.asarray(values)
    start = jnp.full(values.shape[1:], start, values.dtype)
    return np.asarray(jax.lax.scan(body, start, (jnp.arange(1, len(values) + 1), values))[1])


def test_a_constant_decay_is_the_weighted_sum_after_its_warm_up(x64):
    """a_n = sum_k (1 - d_k) prod_{j > k} d_j p_k with d_k = min(d, (1 + k)/(10 + k)); 0.9 is reached at k = 80."""
    n, values = 200, np.random.default_rng(0).standard_normal(200)
    k = np.arange(1, n + 1)
    decays = np.minimum(0.9, (1 + k) / (10 + k))
    assert decays[78] < 0.9 == decays[79]
    after = np.append(np.cumprod(decays[::-1])[::-1][1:], 1.0)
    expected = np.sum((1 - decays) * after * values) + 3.0 * np.prod(decays)
    np.testing.assert_allclose(run_ema(averages.constant(0.9), values, start=3.0)[-1], expected, rtol=1e-12)


def test_the_average_of_a_geometric_sequence(x64):
    """p_k = r^k: a_n = d^n a_0 + (1 - d) r (d^n - r^n)/(d - r), the sum of a geometric series."""
    rule = averages.half_life(1000.0, 50, ramp=None)
    d, r, n = 0.5 ** (50 / 1000), 0.8, np.arange(1, 61)
    expected = d**n * 2.0 + (1 - d) * r * (d**n - r**n) / (d - r)
    np.testing.assert_allclose(run_ema(rule, r**n, start=2.0), expected, rtol=1e-12)


@pytest.mark.parametrize("batch", [10, 50, 100])
def test_half_of_the_average_is_left_after_one_half_life_for_any_batch_size(x64, batch):
    rule = averages.half_life(1000.0, batch, ramp=None)
    np.testing.assert_allclose(math.prod(float(rule(k + 1)) for k in range(1000 // batch)), 0.5, rtol=1e-12)


def test_the_ramp_follows_harmonic_numbers(x64):
    """While h = ramp * examples seen, step k keeps 2^(-1/(ramp k)): steps m+1..n keep 2^(-(H_n - H_m)/ramp) of step m.

    With a half-life of 640 examples, a ramp of 0.1 and a batch of 8, the ramp ends at step 800.
    """
    rule = averages.half_life(640.0, 8, ramp=0.1)
    left = run_ema(rule, np.append(np.ones(100), np.zeros(900)))[[99, 499, 799, 999]]
    harmonic = np.cumsum(1 / np.arange(1, 1001))
    expected = [1.0, *(0.5 ** ((harmonic[n - 1] - harmonic[99]) / 0.1) for n in (500, 800))]
    expected.append(expected[-1] * 0.5 ** (200 * 8 / 640))
    np.testing.assert_allclose(left, expected, rtol=1e-12, atol=1e-13)


# The last width is just below 1/sqrt(12).
@pytest.mark.parametrize("width", [1e-9, 0.003, 0.05, 0.1, 0.2, 0.288, 0.2886751345])
def test_gamma_gives_the_width(width):
    """The standard deviation of Beta(gamma + 1, 1)."""
    gamma = averages.gamma_of_width(width)
    assert gamma > 0
    variance = (gamma + 1) / ((gamma + 2) ** 2 * (gamma + 3))
    np.testing.assert_allclose(math.sqrt(variance), width, rtol=1e-13)


def test_gammas_in_closed_form():
    """At gamma = 1 the profile is a triangle, of standard deviation 1/sqrt(18); at gamma = 2 it is Beta(3, 1)."""
    np.testing.assert_allclose(averages.gamma_of_width(18**-0.5), 1.0, rtol=1e-12)
    np.testing.assert_allclose(averages.gamma_of_width(math.sqrt(3 / 80)), 2.0, rtol=1e-12)


@pytest.mark.parametrize("width", [0.05, 0.1])
def test_a_power_rule_weighs_steps_by_powers_of_time_and_has_its_width(x64, width):
    """(k^(gamma+1) - (k-1)^(gamma+1))/n^(gamma+1); the average of unit vectors is the vector of its weights."""
    n, gamma = 400, averages.gamma_of_width(width)
    found = run_ema(averages.power(width), np.eye(n), start=7.0)
    for last in (1, 2, 37, n):
        k = np.arange(1, last + 1)
        expected = (k ** (gamma + 1) - (k - 1.0) ** (gamma + 1)) / last ** (gamma + 1)
        np.testing.assert_allclose(found[last - 1, :last], expected, rtol=1e-9, atol=1e-300)
        assert not found[last - 1, last:].any()
    k = np.arange(n) + 0.5
    mean = found[-1] @ k
    # The weights lie at the middles of n steps, which takes a relative 1/(24 (n width)^2) = 1e-4 off the width.
    np.testing.assert_allclose(math.sqrt(found[-1] @ (k - mean) ** 2) / n, width, rtol=1e-3)


def test_a_power_rule_keeps_its_digits_in_float32():
    steps = np.array([1, 2, 10, 1000, 10**5, 3 * 10**6])
    decays = np.asarray(jax.jit(averages.power(0.1))(jnp.asarray(steps)))
    assert decays.dtype == np.float32
    exact = np.where(steps == 1, 0.0, np.exp((averages.gamma_of_width(0.1) + 1) * np.log1p(-1 / np.maximum(steps, 2))))
    np.testing.assert_allclose(decays, exact, rtol=3e-7, atol=0)
    # The update uses 1 - decay. float32 separates 1 and decay only to 6e-8.
    np.testing.assert_allclose(1 - decays.astype(np.float64), 1 - exact, rtol=1e-6, atol=6e-8)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: averages.constant(1.0), "decay = 1.0"),
        (lambda: averages.constant(-0.1), "decay = -0.1"),
        (lambda: averages.half_life(0, 8), "examples = 0"),
        (lambda: averages.half_life(10, 0), "batch_size = 0"),
        (lambda: averages.half_life(10, 8, ramp=0.0), r"ramp = 0\.0"),
        (lambda: averages.half_life(math.nan, 8), "examples = nan"),
        (lambda: averages.power(0.0), r"relative_width = 0\.0"),
        (lambda: averages.power(1e-320), "relative_width = 1e-320"),
        (lambda: averages.power(-0.1), r"relative_width = -0\.1"),
        (lambda: averages.power(12**-0.5), r"relative_width = 0\.288675"),
        (lambda: averages.power(math.nan), "relative_width = nan"),
    ],
)
def test_arguments_out_of_range_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
