"""Solvers that are given a number of steps in the place of times, and solvers that start without signal by themselves."""

import functools
import inspect
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import NO_SIGNAL_AT_END, PROCESSES
from moments import of_gaussian

import jaxdiff as jd
from jaxdiff import grids, processes, solvers
from jaxdiff.components import choose, to_json
from jaxdiff.solvers import Restart

EDM = PROCESSES["edm"]
OPTIONS = {
    "churn": {"solver": solvers.heun, "s_churn": 5.0},
    "restarts": {"solver": solvers.heun, "restarts": (Restart(0.1, 5.0, 2, 3),)},
    "temperature": {"solver": solvers.dpm_solver_pp, "temperature": 0.9},
}
SOLVERS = {
    name: functools.partial(solver, **OPTIONS.get(name, {}))
    for name, solver in vars(solvers).items()
    if name in solvers.__all__ and inspect.isfunction(solver) and "times" in inspect.signature(solver).parameters
}


@pytest.mark.parametrize("steps", [1, 6])
def test_every_solver_takes_a_number_of_steps_on_every_process(process, steps):
    for name, solver in SOLVERS.items():
        if steps == 1 and name == "restarts":
            continue  # a single step, to no noise, has no point to restart at
        with np.errstate(all="raise", under="ignore"):
            tableau = solver(process, steps)
        assert len(tableau) >= steps, name
        for leaf in jax.tree.leaves(tableau):
            assert np.isfinite(leaf).all(), name
        # The noise that it starts from is nearly the data's at that time, as in EDM.
        assert process.sigma(tableau.times[0]) >= 12 * process.alpha(tableau.times[0]), name


def test_no_solver_returns_noise(process):
    """Twenty steps of a solver's own grid on data N(1, 0.5^2), by the exact moments of the tableau."""
    for name, solver in SOLVERS.items():
        mean, variance = of_gaussian(solver(process, 20), 1.0, 0.5)
        assert abs(mean - 1) < 0.2, name
        # The samplers of first order are the farthest; a temperature of 0.9 is meant to lower the variance.
        assert 0.35 < np.sqrt(variance) < 0.75 or name == "temperature", name


def test_every_solver_takes_a_chain_without_terminal_signal():
    process = processes.vp_discrete("scaled_linear", zero_terminal_snr=True)
    for steps in (1, 6):
        test_every_solver_takes_a_number_of_steps_on_every_process(process, steps)
    test_no_solver_returns_noise(process)


@pytest.mark.parametrize(
    ("name", "want"),
    [
        ("edm", (80 ** (1 / 7) + np.arange(18) / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7),
        ("flow", (1 - np.arange(18) / 18) ** 2),
        ("trigonometric", np.pi / 2 * (1 - np.arange(18) / 18) ** 2),
        ("vp_discrete", 999 * (1 - np.arange(18) / 18) ** 2),
    ],
)
def test_the_grids_of_a_number_written_out(name, want):
    """EDM's equation 5, and the quadratic grid of DDIM. The sample has no noise left."""
    process = PROCESSES[name]
    for count in (18, np.int64(18)):
        tableau = solvers.ddim(process, count)
        np.testing.assert_allclose(tableau.times, want, rtol=1e-10)
        np.testing.assert_allclose(tableau.state[-1, 0], [0, 1], atol=1e-15)  # x0 itself


def test_solvers_that_divide_by_alpha_start_with_signal():
    """At EDM's `sigma/alpha = 80`; those of the SDE also end at a finite time."""
    for name in NO_SIGNAL_AT_END:
        process = PROCESSES[name]
        for solver in (solvers.deis, solvers.dpm_2, solvers.pndm, SOLVERS["temperature"]):
            assert solver(process, 5).times[0] == grids.karras(process, 5)[0]
        assert solvers.euler_maruyama(process, 5).times[0] == grids.uniform_log_snr(process, 5)[0]
    assert np.isfinite(solvers.euler_maruyama(PROCESSES["ve"], 5).state).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: solvers.ddim(EDM, 0), "steps = 0; allowed are integers of at least 1"),
        (lambda: solvers.ddim(EDM, True), "steps = True"),
        (lambda: solvers.ddim(EDM, 5.0), "times = 5.0; allowed are grids of one axis"),
    ],
)
def test_wrong_numbers(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_number_of_steps_is_no_setting():
    """The JSON of a solver holds its options alone, and a caller gives times or a number."""
    assert to_json(choose(solvers.heun)) == {"kind": "heun", "coordinate": "auto"}
    np.testing.assert_array_equal(choose(solvers.heun)(process=EDM, times=5).state, solvers.heun(EDM, 5).state)
    with pytest.raises(ValueError, match=r"ddim.times is unknown; there are eta"):
        choose(solvers.ddim, times=5)


# ------------------------------------------------------------------------------------- the coordinate of heun


@pytest.mark.parametrize("solver", [solvers.heun, solvers.runge_kutta])
def test_the_coordinate_is_chosen_by_the_process(process, solver):
    """ "flow" for processes that keep a trace of signal at most, from the first time or below; "sigma" for others."""
    name = next(name for name, other in PROCESSES.items() if other is process)
    want = "flow" if name in (*NO_SIGNAL_AT_END, "vp_discrete_cosine") else "sigma"
    times = grids.uniform_time(process, 3)
    for given in (times, times[1:]):
        np.testing.assert_array_equal(solver(process, given).state, solver(process, given, coordinate=want).state)
    programs = [
        str(jax.make_jaxpr(functools.partial(solver, process, coordinate=c))(times[:-1])) for c in ("auto", want)
    ]
    assert programs[0] == programs[1]


def test_heun_of_flow_is_heun_on_the_straight_line():
    """Euler's step and the mean of two velocities, on `dx/dt = eps - x0`, from no signal to no noise."""
    process, mean, std = PROCESSES["flow"], 0.5, 0.3
    times = np.linspace(1, 0, 5)

    def velocity(x, t):
        centred = (x - (1 - t) * mean) / ((1 - t) ** 2 * std**2 + t**2)
        return t * centred - (mean + (1 - t) * std**2 * centred)

    x = noise = np.random.default_rng(0).normal(size=(6, 1))
    for t, s in itertools.pairwise(times):
        slope = velocity(x, t)
        x = x + (s - t) * (slope if s == 0 else (slope + velocity(x + (s - t) * slope, s)) / 2)
    got = jd.sample(
        jax.random.key(0), jd.denoisers.gaussian(process, mean, std), jnp.asarray(noise), solvers.heun(process, times)
    )
    np.testing.assert_allclose(got, x, rtol=1e-4, atol=1e-5)
