"""Quadrature against 40 digits, textbook coefficients, and SciPy's integrals of Lagrange polynomials."""

import mpmath
import numpy as np
import pytest
from common import PROCESSES
from scipy import integrate, interpolate

from jaxdiff import grids
from jaxdiff.processes import log_snr
from jaxdiff.solvers import adams, integrals, quadrature
from jaxdiff.solvers.tableau import check_arguments


@pytest.mark.parametrize("length", [1e-12, 1e-6, 0.01, 0.7, 3.999, 4.001, 9.0, 60.0, 1e4])
def test_exponential_moments_to_the_last_digits(length):
    got = quadrature.exponential_moments(np, np.array([length]), 6)[0]
    with mpmath.workdps(40):
        h = mpmath.mpf(length)
        for j in range(6):
            # h int e^{-h(1-v)} v^j dv = h 1F1(1; j + 2; -h)/(j + 1), in Kummer's form
            exact = h * mpmath.hyp1f1(1, j + 2, -h) / (j + 1)
            assert abs(got[j] / exact - 1) < 2e-14, j


def test_exponential_moments_of_an_infinite_step():
    np.testing.assert_array_equal(quadrature.exponential_moments(np, np.array([np.inf]), 4), [[1.0] * 4])


def test_moments_by_parts():
    """K(v) = v^3 + e^v: int v^j (3 v^2 + e^v) dv."""
    got = quadrature.moments_of_primitive(np, lambda v: v**3 + np.exp(v), np.array(1 + np.e), 5)
    for j in range(1, 5):
        exact = integrate.quad(lambda v, j=j: v**j * (3 * v**2 + np.exp(v)), 0, 1, epsabs=1e-14)[0]
        np.testing.assert_allclose(got[j - 1], exact, rtol=1e-13)


ADAMS_BASHFORTH = {1: [1], 2: [3 / 2, -1 / 2], 3: [23 / 12, -16 / 12, 5 / 12], 4: [55 / 24, -59 / 24, 37 / 24, -9 / 24]}
ADAMS_MOULTON = {1: [1], 2: [1 / 2, 1 / 2], 3: [5 / 12, 8 / 12, -1 / 12], 4: [9 / 24, 19 / 24, -5 / 24, 1 / 24]}


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_textbook_coefficients_on_even_grids(order):
    """On rectified flow with equal steps the methods are the classical ones for `dx/dt = velocity`."""
    process = PROCESSES["flow"]
    integral = integrals.velocity(process, np.linspace(1.0, 0.0, 9))
    np.testing.assert_allclose(adams.weights(integral, order)[-1] * -8, ADAMS_BASHFORTH[order], rtol=1e-12)
    np.testing.assert_allclose(adams.weights(integral, order, ahead=1)[-1] * -8, ADAMS_MOULTON[order], rtol=1e-12)


CASES = {
    "data": (lambda p, t: integrals.data(p, t, 0.0), "log_snr"),
    "data, tau 0.8": (lambda p, t: integrals.data(p, t, 0.8), "log_snr"),
    "noise, log_snr": (lambda p, t: integrals.noise(p, t), "log_snr"),
    "noise, log_snr, tau 0.8": (lambda p, t: integrals.noise(p, t, 0.8), "log_snr"),
    "noise, sigma": (lambda p, t: integrals.noise(p, t, variable="sigma"), "sigma"),
    "noise, time": (lambda p, t: integrals.noise(p, t, variable="time"), "time"),
    "velocity": (lambda p, t: integrals.velocity(p, t, 0.0), "ratio"),
    "velocity, tau 0.8": (lambda p, t: integrals.velocity(p, t, 0.8), "ratio"),
}


def _kernel(case, process, s):
    """`dK/dt` of the integral in `solvers.integrals`, by central differences of alpha and sigma alone."""
    tau = 0.8 if "tau" in case else 0.0

    def slope(f, t):
        h = 1e-5
        return (8 * (f(t + h) - f(t - h)) - (f(t + 2 * h) - f(t - 2 * h))) / (12 * h)

    def half(t):
        return np.log(process.alpha(t) / process.sigma(t))

    def ratio(t):
        return process.sigma(t) / (process.alpha(t) + process.sigma(t))

    if case.startswith("data"):
        rate = 1 + tau**2
        return lambda t: rate * process.alpha(s) * np.exp(rate * (half(t) - half(s))) * slope(half, t)
    if case.startswith("noise"):
        return lambda t: (1 + tau**2) * process.alpha(s) * slope(lambda u: process.sigma(u) / process.alpha(u), t)
    total = process.alpha(s) + process.sigma(s)
    return lambda t: (1 + tau**2) * total * ((1 - ratio(t)) / (1 - ratio(s))) ** (tau**2) * slope(ratio, t)


@pytest.mark.parametrize("name", ["vp_linear", "flow", "ve"])
@pytest.mark.parametrize("ahead", [0, 1])
@pytest.mark.parametrize("case", CASES)
def test_weights_are_the_integrals_of_lagranges_polynomials(case, ahead, name):
    """On an uneven grid, against SciPy's adaptive quadrature in time of the kernel times each polynomial."""
    make, variable = CASES[case]
    process, times = check_arguments(PROCESSES[name], [0.9, 0.7, 0.55, 0.3, 0.2])
    position = {
        "log_snr": lambda t: log_snr(process, t) / 2,
        "sigma": lambda t: process.sigma(t) / process.alpha(t),
        "time": lambda t: t,
        "ratio": lambda t: process.sigma(t) / (process.alpha(t) + process.sigma(t)),
    }[variable]
    order, i = 3, 2
    got = adams.weights(make(process, times), order, ahead=ahead)[i]
    kernel = _kernel(case, process, times[i + 1])
    nodes = [times[i + ahead - j] for j in range(order)]
    for j in range(order):
        lagrange = interpolate.lagrange([position(t) for t in nodes], np.eye(order)[j])
        exact = integrate.quad(
            lambda t, p=lagrange: kernel(t) * np.polyval(p, position(t)), times[i], times[i + 1], epsabs=1e-13
        )[0]
        np.testing.assert_allclose(got[j], exact, rtol=2e-8, atol=2e-9 * abs(got).max())


def test_weights_sum_to_the_whole_kernel(process):
    """The weights sum to the first moment in every order, at singular ends too: constants are integrated exactly."""
    times = np.append(grids.uniform_time(process, 12)[:-1], process.t_clean)
    process, times = check_arguments(process, times)
    made = [
        integrals.data(process, times, 0.3),
        integrals.velocity(process, times, 0.5),
        integrals.velocity(process, times),
    ]
    if process.alpha(times[0]) > 0:
        made += [integrals.noise(process, times, variable=v) for v in ("log_snr", "sigma", "time", "index")]
    for integral in made:
        for ahead in (0, 1):
            got = adams.weights(integral, 4, ahead=ahead)
            scale = np.abs(got).max()
            np.testing.assert_allclose(got.sum(1), integral.moments(1)[:, 0], rtol=1e-9, atol=1e-12 * scale)
