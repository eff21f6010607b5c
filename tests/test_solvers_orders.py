"""Every deterministic multistep solver converges with its order. `pytest -rA` prints the table of docs/solvers.md."""

import functools

import numpy as np
import orders
import pytest
from common import PROCESSES

from jaxdiff import grids, solvers

MULTISTEP = {
    "ddim": (solvers.ddim, 1),
    "euler": (solvers.euler, 1),
    "reverse_diffusion, tau 0": (functools.partial(solvers.reverse_diffusion, tau=0.0), 1),
    "euler_maruyama, tau 0": (functools.partial(solvers.euler_maruyama, tau=0.0), 1),
    "dpm_solver_pp 1": (functools.partial(solvers.dpm_solver_pp, order=1), 1),
    "dpm_solver_pp 2": (functools.partial(solvers.dpm_solver_pp, order=2), 2),
    "dpm_solver_pp 2 midpoint": (functools.partial(solvers.dpm_solver_pp, order=2, variant="midpoint"), 2),
    "dpm_solver_pp 3": (functools.partial(solvers.dpm_solver_pp, order=3), 3),
    "dpm_solver_pp 3 midpoint": (functools.partial(solvers.dpm_solver_pp, order=3, variant="midpoint"), 2),
    "exponential 4": (functools.partial(solvers.exponential, order=4), 4),
    "exponential 3, noise": (functools.partial(solvers.exponential, order=3, prediction="noise"), 3),
    "exponential 2, velocity": (functools.partial(solvers.exponential, order=2, prediction="velocity"), 2),
    "exponential 3, velocity": (functools.partial(solvers.exponential, order=3, prediction="velocity"), 3),
    "exponential 4, velocity": (functools.partial(solvers.exponential, order=4, prediction="velocity"), 4),
    "exponential 2, corrector 3": (
        functools.partial(solvers.exponential, order=2, corrector_order=3, lower_order=False),
        3,
    ),
    "exponential 2, noise, corrector 3": (
        functools.partial(solvers.exponential, order=2, prediction="noise", corrector_order=3, lower_order=False),
        3,
    ),
    "exponential 2, velocity, corrector 3": (
        functools.partial(solvers.exponential, order=2, prediction="velocity", corrector_order=3, lower_order=False),
        3,
    ),
    "deis 1": (functools.partial(solvers.deis, order=1), 1),
    "deis 2": (functools.partial(solvers.deis, order=2), 2),
    "deis 3": (functools.partial(solvers.deis, order=3), 3),
    "deis 4": (functools.partial(solvers.deis, order=4), 4),
    "deis 3, sigma": (functools.partial(solvers.deis, order=3, coordinate="sigma"), 3),
    "deis 3, time": (functools.partial(solvers.deis, order=3, coordinate="time"), 3),
    "lms 2": (functools.partial(solvers.lms, order=2), 2),
    "lms 4": (solvers.lms, 4),
    "ipndm 4": (solvers.ipndm, 2),
    "pndm": (solvers.pndm, 2),
    "uni_pc 1": (functools.partial(solvers.uni_pc, order=1, lower_order=False), 2),
    "uni_pc 2": (functools.partial(solvers.uni_pc, order=2, lower_order=False), 3),
    "uni_pc 2 bh1": (functools.partial(solvers.uni_pc, order=2, variant="bh1", lower_order=False), 3),
    "uni_pc 2, lower_order": (solvers.uni_pc, 2),
    "uni_pc 3": (functools.partial(solvers.uni_pc, order=3, lower_order=False), 4),
    "sa_solver 2 3, tau 0": (functools.partial(solvers.sa_solver, tau=0.0, variable="log_snr", lower_order=False), 3),
}


@functools.cache
def _errors(name):
    return orders.errors(name, {solver: make for solver, (make, _) in MULTISTEP.items()}, (160, 320))


@pytest.mark.parametrize("name", ["vp_cosine", "flow"])
@pytest.mark.parametrize("solver", MULTISTEP)
def test_order_of_convergence(solver, name):
    errors, nominal = _errors(name)[solver], MULTISTEP[solver][1]
    print(f"| {solver} | {' | '.join(f'{e:.2e}' for e in errors)} | {orders.order(errors):.2f} |  {name}")
    assert orders.order(errors) >= nominal - 0.15


def _even(process, steps, span):
    return grids.from_sigmas(process, np.linspace(*np.exp(-np.array(span) / 2), steps + 1))


@pytest.mark.parametrize("solver", ["pndm", "ipndm", "lms"])
def test_methods_of_even_steps_on_even_steps(solver):
    """On a grid that is even in sigma/alpha PNDM has order 4, and iPNDM is LMS."""
    process = PROCESSES["edm"]
    make = getattr(solvers, solver)
    errors = orders.errors("edm", {solver: make}, (80, 160), span=(-2.0, 3.0), grid=_even)[solver]
    print(f"| {solver}, even in sigma | {' | '.join(f'{e:.2e}' for e in errors)} | {orders.order(errors):.2f} |")
    if solver == "pndm":
        assert orders.order(errors) >= 4 - 0.15
    times = _even(process, 9, (-2.0, 3.0))
    np.testing.assert_allclose(solvers.ipndm(process, times).state, solvers.lms(process, times).state, rtol=1e-9)
