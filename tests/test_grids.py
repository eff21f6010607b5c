"""Grids: what they promise, on every process they are defined for."""

import numpy as np
import pytest
from common import PROCESSES

import jaxdiff as jd
from jaxdiff import grids
from jaxdiff.processes import log_snr

FINITE = [
    name for name, p in PROCESSES.items() if p.alpha(np.float64(p.t_max)) > 0 and p.sigma(np.float64(p.t_min)) > 0
]


def _ratio(process, times):
    return process.sigma(times) / process.alpha(times)


@pytest.mark.parametrize("steps", [1, 2, 7, 1000])
def test_lengths_types_ends_and_direction(process, steps):
    made = {
        "uniform_time": grids.uniform_time(process, steps),
        "from_sigmas": grids.from_sigmas(process, np.linspace(1, 0, steps + 1)),
    }
    if process.alpha(np.float64(process.t_max)) > 0 and process.sigma(np.float64(process.t_min)) > 0:
        made["uniform_log_snr"] = grids.uniform_log_snr(process, steps)
        made["karras"] = grids.karras(process, steps)
    if "Discrete" in type(process).__name__:
        for spacing in ("trailing", "leading", "linspace"):
            made[spacing] = grids.discrete(process, steps, spacing=spacing)
    for name, times in made.items():
        assert isinstance(times, np.ndarray), name
        assert times.dtype == np.float64, name
        assert times.shape == (steps + 1,), name
        assert np.all(np.diff(times) < 0), name
        if name in ("uniform_time", "uniform_log_snr", "karras"):
            assert times[0] == process.t_max, name
        assert times[-1] == (process.t_min if name.startswith("uniform") else process.t_clean), name


@pytest.mark.parametrize("name", FINITE)
def test_uniform_log_snr_is_uniform(name):
    process = PROCESSES[name]
    gaps = np.diff(log_snr(process, grids.uniform_log_snr(process, 20)))
    np.testing.assert_allclose(gaps, gaps.mean(), rtol=1e-9)


@pytest.mark.parametrize("name", FINITE)
def test_karras_is_uniform_in_the_root(name):
    process = PROCESSES[name]
    for rho in (1.0, 7.0):
        ratios = _ratio(process, grids.karras(process, 20, rho=rho)[:-1])
        gaps = np.diff(ratios ** (1 / rho))
        np.testing.assert_allclose(gaps, gaps.mean(), rtol=1e-7)
        np.testing.assert_allclose(ratios[-1], _ratio(process, np.float64(process.t_min)), rtol=1e-9)


def test_karras_published_values():
    """Equation 5 of the paper, 18 steps, sigma 0.002 to 80: the formula written out."""
    i = np.arange(18)
    want = (80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    np.testing.assert_allclose(grids.karras(jd.processes.edm(), 18)[:-1], want, rtol=1e-11)


def test_where_an_end_is_singular_the_grid_asks_for_one():
    process = jd.processes.flow()
    with pytest.raises(ValueError, match="log_snr_min and log_snr_max"):
        grids.uniform_log_snr(process, 5)
    with pytest.raises(ValueError, match="sigma_max"):
        grids.karras(process, 5)
    times = grids.uniform_log_snr(process, 5, log_snr_min=-8, log_snr_max=8)
    np.testing.assert_allclose(log_snr(process, times), np.linspace(-8, 8, 6), atol=1e-9)
    times = grids.karras(process, 5, sigma_min=0.01, sigma_max=100)
    np.testing.assert_allclose(_ratio(process, times)[[0, -2]], [100, 0.01])


def test_from_sigmas_hits_the_ratios(process):
    sigmas = np.array([3.0, 1.0, 0.3, 0.05, 0.0])
    times = grids.from_sigmas(process, sigmas)
    np.testing.assert_allclose(_ratio(process, times), sigmas, rtol=1e-9)


@pytest.mark.parametrize("steps", [1, 3, 7, 10, 300, 999, 1000])
def test_discrete_spacings(steps):
    """Also where steps does not divide the chain, which shifts other libraries' steps."""
    process = jd.processes.vp_discrete()
    trailing = grids.discrete(process, steps)
    assert trailing[0] == 999
    np.testing.assert_allclose(-np.diff(trailing), 1000 / steps, atol=1.0)
    leading = grids.discrete(process, steps, spacing="leading")
    assert leading[-2] == 0
    np.testing.assert_array_equal(-np.diff(leading[:-1]), 1000 // steps)
    linspace = grids.discrete(process, steps, spacing="linspace")
    assert linspace[0] == 999
    assert steps == 1 or linspace[-2] == 0


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: grids.uniform_time(jd.processes.edm(), 0), ValueError, "steps = 0"),
        (lambda: grids.uniform_time(jd.processes.edm(), 2.5), ValueError, "steps = 2.5"),
        (lambda: grids.karras(jd.processes.edm(), 5, rho=0), ValueError, "rho = 0"),
        (lambda: grids.from_sigmas(jd.processes.edm(), [1, 2]), ValueError, "sigmas"),
        (lambda: grids.from_sigmas(jd.processes.edm(), [1, -1]), ValueError, "sigmas"),
        (lambda: grids.discrete(jd.processes.edm(), 5), TypeError, "EDM"),
        (lambda: grids.discrete(jd.processes.vp_discrete(), 1001), ValueError, "steps = 1001"),
        (lambda: grids.discrete(jd.processes.vp_discrete(), 5, spacing="trail"), ValueError, "'trail'.*'trailing'"),
    ],
)
def test_wrong_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()
