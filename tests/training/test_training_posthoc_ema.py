"""Post-hoc averages against the exact weights of steps and against least squares by quadrature."""

import itertools
import math

import chex
import numpy as np
import pytest

from jaxdiff import averages
from jaxdiff.training import posthoc_ema

WIDTHS = (0.05, 0.1)


def weights_of_steps(width, last):
    """The weights that the average after step `last` gives to steps 1..last (`tests/test_averages.py` checks them)."""
    k, power = np.arange(1.0, last + 1), averages.gamma_of_width(width) + 1
    return (k / last) ** power - ((k - 1) / last) ** power


@pytest.mark.parametrize(("width", "at", "count"), [(0.075, 400, 8), (0.05, 400, 3), (0.04, 256, 16), (0.2, 600, 12)])
def test_the_reported_error_bounds_the_error_of_the_weights_of_steps(width, at, count):
    """Weights of steps are profiles averaged over steps, and averaging brings no two profiles further apart."""
    steps = [at * (i + 1) // count for i in range(count) for _ in WIDTHS]
    widths = list(WIDTHS) * count
    found = posthoc_ema.solve(steps, widths, at, width)
    np.testing.assert_allclose(found.weights.sum(), 1.0, rtol=1e-12)
    made, wanted = np.zeros(at), weights_of_steps(width, at)
    for weight, s, w in zip(found.weights, steps, widths, strict=True):
        made[:s] += weight * weights_of_steps(w, s)
    gamma = averages.gamma_of_width(width)
    apart = math.sqrt(np.sum((made - wanted) ** 2)) / ((gamma + 1) / math.sqrt((2 * gamma + 1) * at))
    # The squared error is a difference of numbers of order 1, so that rounding leaves sqrt(eps) = 1.5e-8 times a few.
    assert apart <= found.error + 1e-7
    # Hundreds of steps resolve the profiles to better than a tenth.
    assert apart > 0.9 * found.error - 1e-7
    assert found.error < 0.1  # what `jaxdiff.runs.snapshots` accepts


def test_the_weights_solve_the_least_squares_of_profiles_on_a_fine_grid():
    """The same minimum by quadrature: Gauss-Legendre between the snapshots, where profiles are smooth."""
    steps, widths, at, width = [100, 100, 250, 250, 400, 400], [*WIDTHS] * 3, 400, 0.13
    nodes, gauss = np.polynomial.legendre.leggauss(40)
    edges = np.array([0.0, 100.0, 250.0, 400.0])
    tau = np.concatenate([(b - a) / 2 * nodes + (a + b) / 2 for a, b in itertools.pairwise(edges)])
    root = np.sqrt(np.concatenate([(b - a) / 2 * gauss for a, b in itertools.pairwise(edges)]))

    def profile(s, w):
        gamma = averages.gamma_of_width(w)
        return np.where(tau < s, (gamma + 1) * (tau / s) ** gamma / s, 0.0) * root

    matrix, target = np.stack([profile(s, w) for s, w in zip(steps, widths, strict=True)], 1), profile(at, width)
    # Weights that sum to 1 leave the last weight to the others.
    free = np.linalg.lstsq(matrix[:, :-1] - matrix[:, -1:], target - matrix[:, -1], rcond=None)[0]
    expected = np.append(free, 1 - free.sum())
    found = posthoc_ema.solve(steps, widths, at, width)
    np.testing.assert_allclose(found.weights, expected, rtol=1e-8)
    error = np.linalg.norm(matrix @ expected - target) / np.linalg.norm(target)
    np.testing.assert_allclose(found.error, error, rtol=1e-8)


def test_the_average_of_a_snapshot_is_that_snapshot():
    steps, widths = [s for s in range(100, 2100, 100) for _ in WIDTHS], list(WIDTHS) * 20
    found = posthoc_ema.solve(steps, widths, 1500, 0.1)
    np.testing.assert_allclose(found.weights, (np.array(steps) == 1500) * (np.array(widths) == 0.1), atol=1e-9)
    assert found.error < 1e-7


def test_weights_do_not_depend_on_the_unit_of_time_in_long_trainings_with_many_snapshots():
    steps, widths = np.arange(1, 301).repeat(2), list(WIDTHS) * 300
    short, long = (posthoc_ema.solve([int(s) for s in steps * u], widths, 300 * u, 0.15) for u in (1, 10**9))
    assert np.all(np.isfinite(long.weights))
    assert long.error < 1e-4
    np.testing.assert_allclose(long.weights, short.weights, atol=1e-6)
    # Large weights of opposite signs would cancel, and amplify the rounding of the snapshots.
    assert np.abs(long.weights).sum() < 3


def test_combining_sums_in_float64_and_one_at_a_time():
    read = []

    def trees():
        for value in (2.0**30, 1.0, -(2.0**30)):
            read.append(value)
            yield {"a": np.full(3, value, np.float32), "b": {"c": np.float32(value)}}

    found = posthoc_ema.combine([1.0, 1.0, 1.0], trees())
    assert read == [2.0**30, 1.0, -(2.0**30)]
    chex.assert_trees_all_equal(found, {"a": np.ones(3, np.float32), "b": {"c": np.float32(1)}}, strict=True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([], [], 10, 0.1), r"len\(steps\) = 0"),
        (([5], [0.1, 0.05], 10, 0.1), r"len\(widths\) = 2; allowed are 1"),
        (([0], [0.1], 10, 0.1), "step = 0"),
        (([5], [0.1], 10, 0.5), r"relative_width = 0\.5"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        posthoc_ema.solve(*arguments)
