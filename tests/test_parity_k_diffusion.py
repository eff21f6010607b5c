"""Parity with k-diffusion: stored float64 samples of its samplers on an exactly denoised mixture, against our tableaux.

`tests/references/README.md` says how the samples were made. The eta of k-diffusion's SDE solvers is our `tau^2`. Its
`sample_heun` with churn is the stochastic sampler of EDM (Karras et al. 2022, algorithm 2).
"""

import functools

import numpy as np
import pytest
from common import MEANS, PROCESSES, STDS, WEIGHTS
from executor import references, run

from jaxdiff import grids, solvers

STORED = references("k_diffusion")
CHURN = {"s_churn": 10.0}
IMAGENET = {"s_churn": 40.0, "s_min": 0.05, "s_max": 50.0, "s_noise": 1.003}

CASES = {}
for grid in ("clean", "noisy"):
    for name in ("euler", "heun", "dpm_2"):
        solver = getattr(solvers, name)
        CASES[f"{name}, {grid}"] = solver
        CASES[f"{name} churn, {grid}"] = functools.partial(solvers.churn, solver=solver, **CHURN)
        CASES[f"{name} churn within, {grid}"] = functools.partial(solvers.churn, solver=solver, **IMAGENET)
    for order in (1, 2, 3, 4):
        CASES[f"lms {order}, {grid}"] = functools.partial(solvers.lms, order=order)
    multistep = functools.partial(solvers.dpm_solver_pp, lower_order=False)
    CASES[f"dpmpp_2m, {grid}"] = functools.partial(multistep, order=2, variant="midpoint")
    for eta in (0.0, 0.5, 1.0):
        for name in ("euler_ancestral", "dpm_2_ancestral", "dpmpp_2s_ancestral"):
            CASES[f"{name} {eta}, {grid}"] = functools.partial(getattr(solvers, name), eta=eta)
        tau = np.sqrt(eta)
        for variant in ("midpoint", "heun"):
            CASES[f"dpmpp_2m_sde {variant} {eta}, {grid}"] = functools.partial(
                multistep, order=2, variant=variant, tau=tau
            )
        CASES[f"dpmpp_3m_sde {eta}, {grid}"] = functools.partial(multistep, order=3, variant="heun", tau=tau)
for order in (1, 2, 3):
    CASES[f"dpm_solver {order}, noisy"] = functools.partial(solvers.dpm_solver, order=order)


def test_every_stored_sample_is_compared():
    assert set(STORED) == {"mixture", "clean", "noisy", *CASES}
    for array, ours in (("weights", WEIGHTS), ("means", MEANS), ("stds", STDS)):
        np.testing.assert_array_equal(STORED["mixture"][array], ours)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("process", ["edm", "vp_discrete"])
def test_samples_agree_to_ten_digits(process, name):
    """x/alpha is the same on the process that k-diffusion assumes and on another with the same ratios sigma/alpha."""
    process = PROCESSES[process]
    grid = STORED[name.split(", ")[1]]
    times = grids.from_sigmas(process, grid["sigmas"])
    start, end = process.alpha(times[0]), process.alpha(times[-1])
    draws = STORED["mixture"]["draws"][STORED[name].get("draws", [])]
    got = run(CASES[name](process, times), grid["x"] * start, draws) / end
    expected = STORED[name]["result"]
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-10 * np.abs(expected).max())
