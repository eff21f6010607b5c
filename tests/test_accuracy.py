"""With few evaluations the recommended sampler of docs/solvers.md beats the best published errors of public samplers.

`scripts/benchmark/solver_accuracy.py` explains the mixture and the published errors.
"""

import functools
import importlib.util
import pathlib

import executor
import numpy as np
import pytest

import jaxdiff as jd
from jaxdiff import grids, solvers

path = pathlib.Path(__file__).resolve().parents[1] / "scripts" / "benchmark" / "exact_mixture.py"
spec = importlib.util.spec_from_file_location("exact_mixture", path)
exact_mixture = importlib.util.module_from_spec(spec)
spec.loader.exec_module(exact_mixture)


NOISE = np.random.default_rng(11).normal(size=(2000, 2))


@functools.cache
def _solution():
    return exact_mixture.solution(NOISE, 0.0, 1.0)


@pytest.mark.parametrize(("evaluations", "published"), [(5, 0.133), (10, 0.050), (20, 0.031), (50, 0.0042)])
def test_better_than_the_best_published(evaluations, published):
    process = jd.processes.flow()
    times = np.append(grids.polynomial(process, evaluations, rho=2.0)[:-1], process.t_clean)
    tableau = solvers.exponential(process, times, order=2, prediction="velocity", corrector_order=3)
    assert len(tableau) == evaluations

    def estimate(process, x, t):
        return exact_mixture.estimate(x, process.alpha(t), process.sigma(t))

    error = exact_mixture.distance(executor.run(tableau, NOISE, denoiser=estimate), _solution())
    print(evaluations, error)
    assert error < published
