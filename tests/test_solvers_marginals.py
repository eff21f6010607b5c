"""Stochastic solvers: the exact mean and variance of their samples of Gaussian data converge to those of the data."""

import functools

import numpy as np
import pytest
from common import PROCESSES
from moments import of_gaussian

from jaxdiff import grids, solvers

MEAN, STD = 0.7, 0.5
# The least rate at which the error of the variance falls.
STOCHASTIC = {
    "ddpm": (solvers.ddpm, 1),
    "ddpm large": (functools.partial(solvers.ddpm, variance="large"), 1),
    "ddim, eta 0.5": (functools.partial(solvers.ddim, eta=0.5), 1),
    "euler_ancestral": (solvers.euler_ancestral, 1),
    "dpm_2_ancestral": (solvers.dpm_2_ancestral, 2),
    "dpmpp_2s_ancestral": (solvers.dpmpp_2s_ancestral, 2),
    "dpm_solver_pp 2, tau 1": (functools.partial(solvers.dpm_solver_pp, order=2, tau=1.0), 2),
    "dpm_solver_pp 2 midpoint, tau 1": (
        functools.partial(solvers.dpm_solver_pp, order=2, tau=1.0, variant="midpoint"),
        1.9,
    ),
    "dpm_solver_pp 3, tau 1": (functools.partial(solvers.dpm_solver_pp, order=3, tau=1.0), 2),
    "sa_solver": (solvers.sa_solver, 2),
    "sa_solver, tau 0.5": (functools.partial(solvers.sa_solver, tau=0.5), 2),
    "sa_solver 3 4, log_snr": (
        functools.partial(solvers.sa_solver, predictor_order=3, corrector_order=4, variable="log_snr"),
        2,
    ),
    "exponential 2, noise, tau 1": (functools.partial(solvers.exponential, prediction="noise", tau=1.0), 2),
    "exponential 2, velocity, tau 1": (functools.partial(solvers.exponential, prediction="velocity", tau=1.0), 2),
    "exponential 2, velocity, tau 0.7": (functools.partial(solvers.exponential, prediction="velocity", tau=0.7), 2),
    "exponential 1, velocity, tau 0.7": (
        functools.partial(solvers.exponential, order=1, prediction="velocity", tau=0.7),
        1,
    ),
    "reverse_diffusion": (solvers.reverse_diffusion, 1),
    "reverse_diffusion, tau 0.5": (functools.partial(solvers.reverse_diffusion, tau=0.5), 1),
    "euler_maruyama": (solvers.euler_maruyama, 1),
    "euler_maruyama, tau 0.5": (functools.partial(solvers.euler_maruyama, tau=0.5), 1),
}


def _times(process, steps):
    return grids.uniform_log_snr(process, steps, log_snr_min=-7.5, log_snr_max=6.0)


def _moments(make, process, steps):
    return np.array(of_gaussian(make(process, _times(process, steps)), MEAN, STD))


def _exact(process):
    end = _times(process, 1)[-1]
    alpha, sigma = process.alpha(end), process.sigma(end)
    return np.array([alpha * MEAN, alpha**2 * STD**2 + sigma**2])


@pytest.mark.parametrize("name", ["vp_linear", "flow"])
@pytest.mark.parametrize("solver", STOCHASTIC)
def test_marginals_converge_with_their_rate(solver, name):
    make, rate = STOCHASTIC[solver]
    process = PROCESSES[name]
    errors = [abs(_moments(make, process, steps) - _exact(process)) for steps in (40, 320)]
    of_mean, of_variance = np.transpose(errors)
    measured = np.log2(of_variance[0] / of_variance[-1]) / 3
    print(f"| {solver} | {' | '.join(f'{e:.1e}' for e in of_variance)} | {measured:.2f} |  {name}")
    assert measured >= rate - 0.15
    assert of_variance[-1] < 0.02
    assert of_mean[-1] < 0.01
    assert of_mean[-1] <= of_mean[0] / 2**2.5 or of_mean[-1] < 1e-12


@pytest.mark.parametrize("steps", [10, 12, 16])
@pytest.mark.parametrize("grid", [grids.karras, grids.exponential])
@pytest.mark.parametrize("name", ["edm", "vp_linear", "vp_cosine", "flow"])
def test_sa_solver_is_steady_on_long_steps(name, grid, steps):
    """An extrapolation in log-SNR has up to three times the standard deviation here (and DDPM six tenths of it)."""
    process = PROCESSES[name]
    _, variance = of_gaussian(solvers.sa_solver(process, grid(process, steps)), 0.0, STD)
    np.testing.assert_allclose(np.sqrt(variance), STD, rtol=0.12)


def test_the_exact_steps_are_exact():
    """Any step is exact for data in one point with the "small" variance, and for data from N(0, I) with "large"."""
    process = PROCESSES["vp_cosine"]
    times = np.array([1.0, 0.6, 0.1])
    for make in (solvers.ddpm, solvers.euler_ancestral, functools.partial(solvers.dpm_solver_pp, tau=1.0)):
        mean, variance = of_gaussian(make(process, times), MEAN, 0.0)
        np.testing.assert_allclose(mean, process.alpha(0.1) * MEAN, rtol=1e-12)
        np.testing.assert_allclose(variance, process.sigma(0.1) ** 2, rtol=1e-12)
    mean, variance = of_gaussian(solvers.ddpm(process, times, variance="large"), 0.0, 1.0)
    assert mean == 0.0
    np.testing.assert_allclose(variance, 1.0, rtol=1e-12)


@pytest.mark.parametrize("prediction", ["data", "noise", "velocity"])
@pytest.mark.parametrize("tau", [0.0, 0.4, 1.0, 1.7])
def test_the_three_predictions_solve_one_equation(prediction, tau):
    """The predictions agree in the limit of many steps, which Richardson extrapolation from 320 and 640 steps gives."""
    process = PROCESSES["vp_linear"]
    make = functools.partial(solvers.exponential, order=2, prediction=prediction, tau=tau)
    coarse, fine = (_moments(make, process, steps) for steps in (320, 640))
    mean, variance = (4 * fine - coarse) / 3
    exact_mean, exact_variance = _exact(process)
    assert abs(mean - exact_mean) < 1e-6
    assert abs(variance - exact_variance) < 2e-6


def test_a_correction_keeps_the_noise_of_its_step():
    """SA-Solver's corrector uses the noise that the predictor drew: Xue et al. 2023, equation 17."""
    process = PROCESSES["vp_linear"]
    times = grids.uniform_log_snr(process, 3)
    tau, rng = 0.8, np.random.default_rng(0)
    plain = solvers.exponential(process, times, order=1, tau=tau)
    tableau = solvers.sa_solver(process, times, predictor_order=1, corrector_order=1, tau=tau)
    x, f0, f1, z0 = rng.normal(size=4)
    # The first step predicts with f0 and z0. The estimate there is f1, and the correction uses f1 in place of f0.
    keep, on_f = plain.state[1, 0]
    predicted = keep * x + on_f * f0 + plain.noise[1, 0, 0] * z0
    corrected = keep * x + on_f * f1 + plain.noise[1, 0, 0] * z0
    first = tableau.state[1] @ np.array([x, x, f0, 0.0]) + tableau.noise[1, :, 0] * z0
    np.testing.assert_allclose(first, [x, predicted], rtol=1e-13)
    second = tableau.state[2] @ np.array([*first, f1, f0])
    np.testing.assert_allclose(second[0], corrected, rtol=1e-12)
    np.testing.assert_allclose(second[1], plain.state[2, 0] @ [corrected, f1], rtol=1e-12)
