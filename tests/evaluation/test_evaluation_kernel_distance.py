"""The kernel distance against its definition, and against its expectation for Gaussians."""

import numpy as np
import pytest

from jaxdiff.evaluation.kernel_distance import kernel_distance


def _by_pairs(x, y):
    def k(a, b):
        return (a @ b / len(a) + 1) ** 3

    same = [np.mean([k(v[i], v[j]) for i in range(len(v)) for j in range(len(v)) if i != j]) for v in (x, y)]
    return sum(same) - 2 * np.mean([k(a, b) for a in x for b in y])


def test_value_and_error_are_those_of_the_definitions():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(7, 3)), rng.normal(0.5, 2.0, size=(5, 3))
    found = kernel_distance(x, y)
    np.testing.assert_allclose(found.value, _by_pairs(x, y), rtol=1e-12)
    variance = 0.0
    for which, size in ((0, 7), (1, 5)):
        left = [
            _by_pairs(*(np.delete(v, i, 0) if w == which else v for w, v in enumerate((x, y)))) for i in range(size)
        ]
        variance += (size - 1) / size * np.sum((left - np.mean(left)) ** 2)
    np.testing.assert_allclose(found.error, np.sqrt(variance), rtol=1e-10)


def test_without_bias_and_with_an_honest_error():
    """For d = 1, `E k(a, b)` follows from moments: 1 + 3 E[a] E[b] + 3 E[a^2] E[b^2] + E[a^3] E[b^3]."""
    mean, std = 0.5, 1.2
    first, second, third = mean, mean**2 + std**2, mean**3 + 3 * mean * std**2
    wanted = 3 * first**2 + 3 * (second - 1) ** 2 + third**2  # the squared differences of the moments
    rng = np.random.default_rng(1)
    found = [kernel_distance(rng.normal(size=(40, 1)), rng.normal(mean, std, (60, 1))) for _ in range(400)]
    values, errors = np.array(found).T
    assert abs(values.mean() - wanted) < 4 * values.std() / 20
    assert 0.8 < np.sqrt(np.mean(errors**2)) / values.std() < 1.3


def test_many_examples_are_summed_in_parts():
    x = np.random.default_rng(2).normal(size=(1500, 2))
    np.testing.assert_allclose(kernel_distance(x, x[::-1]).value, kernel_distance(x, x).value, rtol=1e-9)
    assert kernel_distance(x, x).value < 0  # pairs of an example with itself count across the sets alone


@pytest.mark.parametrize(
    ("x", "y", "text"),
    [
        (np.zeros((2, 3)), np.zeros((5, 3)), r"x.shape = \(2, 3\)"),
        (np.zeros((5, 3)), np.zeros((5, 4)), r"y.shape = \(5, 4\); allowed are \[m, 3\]"),
        (np.full((5, 3), np.nan), np.zeros((5, 3)), "x = nan; allowed are finite numbers"),
    ],
)
def test_misfits_are_refused(x, y, text):
    with pytest.raises(ValueError, match=text):
        kernel_distance(x, y)
