"""Chains of tableaux, and the solvers that are made of a solver: churn, restarts, temperature."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import NO_SIGNAL_AT_END, PROCESSES, least_probable_projection, mixture
from executor import estimate, run

import jaxdiff as jd
from jaxdiff import grids, solvers, trees
from jaxdiff.arithmetic import namespace
from jaxdiff.solvers.chain import chain
from jaxdiff.solvers.ddim import ddim, ddpm
from jaxdiff.solvers.dpm_2 import dpm_2, dpm_2_ancestral
from jaxdiff.solvers.dpm_solver import dpm_solver_pp_singlestep
from jaxdiff.solvers.dpm_solver_pp import dpm_solver_pp
from jaxdiff.solvers.exponential import exponential
from jaxdiff.solvers.heun import heun
from jaxdiff.solvers.restarts import Restart
from jaxdiff.solvers.runge_kutta import RK4, runge_kutta
from jaxdiff.solvers.tableau import Tableau

sample = jax.jit(jd.sample)
EDM = jd.processes.edm(0.01, 40.0)


def _start(process, time, seed=0):
    level = np.sqrt(process.alpha(time) ** 2 + process.sigma(time) ** 2)
    return np.random.default_rng(seed).normal(size=(5, 2)) * level


def _normals(count, seed=1):
    return np.random.default_rng(seed).normal(size=(count, 5, 2))


# ------------------------------------------------------------------------------------------ chain

PIECES = {
    "ddim": ddim,
    "heun": functools.partial(heun, coordinate="flow"),
    "rk 4": functools.partial(runge_kutta, butcher=RK4, coordinate="flow"),
    "++ 3": functools.partial(dpm_solver_pp_singlestep, order=3),
    "multistep 3": functools.partial(dpm_solver_pp, order=3),
    "corrected 2": functools.partial(exponential, order=2, corrector_order=3),
}


@pytest.mark.parametrize("second", PIECES)
@pytest.mark.parametrize("first", PIECES)
def test_a_chain_samples_with_one_tableau_after_the_other(first, second):
    process = PROCESSES["vp_linear"]
    times = grids.uniform_time(process, 9)
    one, other = PIECES[first](process, times[:5]), PIECES[second](process, times[4:])
    x = _start(process, times[0])
    both = chain(one, other)
    assert len(both) == len(one) + len(other)
    assert (both.points, both.history_length) == (
        max(one.points, other.points),
        max(one.history_length, other.history_length),
    )
    np.testing.assert_allclose(run(both, x), run(other, run(one, x)), rtol=1e-10, atol=1e-12)
    z = _normals(1)
    got = run(chain(one, other, scale=0.7, noise=0.3), x, z)
    np.testing.assert_allclose(got, run(other, 0.7 * run(one, x) + 0.3 * z[0]), rtol=1e-10, atol=1e-12)


def test_chained_noises_add_in_variance():
    """Where an ancestral sampler and a churned one meet, one draw has the variance of three noises."""
    process = PROCESSES["vp_linear"]
    times = grids.uniform_time(process, 6)
    one, other = dpm_2_ancestral(process, times[:4]), solvers.churn(process, times[3:], solver=heun, s_churn=1.0)
    both = chain(one, other, scale=0.8, noise=0.25)
    lift, churn = other.state[0, 0].sum(), other.noise[0, 0, 0]
    assert churn > 0
    assert one.noise[-1, -1, 0] > 0
    want = np.sqrt((lift * 0.8 * one.noise[-1, -1, 0]) ** 2 + (lift * 0.25) ** 2 + churn**2)
    np.testing.assert_allclose(both.noise[len(one), :, 0], want, rtol=1e-12)
    np.testing.assert_allclose(both.state[len(one)], lift * 0.8 * np.stack([one.state[-1, -1]] * 2), rtol=1e-12)
    # All other rows are unchanged.
    np.testing.assert_array_equal(both.noise[len(one) + 1 :], other.noise[1:])
    np.testing.assert_array_equal(both.noise[: len(one)], one.noise[:-1])


def test_a_chain_of_pytrees_with_a_key_for_each_example():
    """In the jitted sampler an example does not depend on its place in the batch."""
    process = PROCESSES["edm"]
    times = grids.karras(process, 6)
    tableau = chain(heun(process, times[:4]), ddpm(process, times[3:]), noise=0.5)
    denoiser = jd.denoisers.gaussian(process, {"a": 0.5, "b": jnp.array([1.0, -1.0, 0.0])}, {"a": 0.3, "b": 1.0})
    keys = jax.random.split(jax.random.key(0), 4)
    shape = {"a": jax.ShapeDtypeStruct((4,), jnp.float32), "b": jax.ShapeDtypeStruct((4, 3), jnp.float32)}
    x = jd.prior_sample(keys, process, shape)
    draws = jax.random.split(jax.random.key(1), 4)
    there = sample(draws, denoiser, x, tableau)
    back = sample(draws[::-1], denoiser, jax.tree.map(lambda leaf: leaf[::-1], x), tableau)
    for one, other in zip(jax.tree.leaves(there), jax.tree.leaves(back), strict=True):
        assert np.isfinite(one).all()
        np.testing.assert_array_equal(one, other[::-1])


def test_derivatives_pass_through_a_chain(x64):
    process = jd.processes.edm(0.5, 5.0)
    times = grids.karras(process, 4)[:-1]

    def functional(times, noise):
        xp, both = namespace(noise), chain(heun(process, times[:3]), ddpm(process, times[2:]), noise=noise)
        return xp.sum(xp.sin(both.state)) + xp.sum(xp.cos(both.noise))

    noise = np.float64(0.3)
    gradient = jax.jit(jax.grad(functional, argnums=(0, 1)))
    by_times, by_noise = gradient(jnp.asarray(times), jnp.asarray(noise))
    for i in range(4):
        h = 1e-6 * times[i]
        bump = h * (np.arange(4) == i)
        numeric = (functional(times + bump, noise) - functional(times - bump, noise)) / (2 * h)
        np.testing.assert_allclose(by_times[i], numeric, rtol=1e-5, atol=1e-7)
    numeric = (functional(times, noise + 1e-6) - functional(times, noise - 1e-6)) / 2e-6
    np.testing.assert_allclose(by_noise, numeric, rtol=1e-6)
    assert np.isfinite(gradient(jnp.asarray(times), jnp.asarray(0.0))[1])


# ------------------------------------------------------------------------------------------ churn


def test_heun_with_churn_is_edm_algorithm_2(x64):
    """The algorithm as the paper prints it, with the same noise."""
    process = jd.processes.edm(0.02, 20.0)
    steps, s_churn, s_min, s_max, s_noise = 8, 30.0, 0.1, 15.0, 1.003
    times = grids.karras(process, steps)
    tableau = solvers.churn(process, times, solver=heun, s_churn=s_churn, s_min=s_min, s_max=s_max, s_noise=s_noise)
    assert len(tableau) == 2 * steps - 1
    key = jax.random.key(3)
    x0 = jd.prior_sample(jax.random.key(4), process, (6, 2)).astype(jnp.float64)
    got = sample(key, mixture(process), x0, tableau)

    def noise(row):  # the noise of row i, as the sampler draws it
        return np.asarray(trees.normal_like(jax.random.fold_in(key, row), x0))

    x = np.asarray(x0)
    for i in range(steps):
        t, t_next = times[i], times[i + 1]
        gamma = min(s_churn / steps, np.sqrt(2) - 1) if s_min <= t <= s_max else 0.0
        t_hat = t + gamma * t
        x = x + np.sqrt(t_hat**2 - t**2) * s_noise * noise(2 * i)
        d = (x - estimate(process, x, t_hat)[0]) / t_hat
        x_next = x + (t_next - t_hat) * d
        if t_next:
            d_next = (x_next - estimate(process, x_next, t_next)[0]) / t_next
            x_next = x + (t_next - t_hat) * (d + d_next) / 2
        x = x_next
    np.testing.assert_allclose(got, x, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("solver", ["ddim", "dpm_2", "dpm_2_ancestral"])
def test_churn_on_any_process_and_solver(solver):
    """Written out in ratios and x/alpha on a variance-preserving process."""
    process = PROCESSES["vp_linear"]
    times = grids.karras(process, 5)
    inner = {"ddim": ddim, "dpm_2": dpm_2, "dpm_2_ancestral": dpm_2_ancestral}[solver]
    tableau = solvers.churn(process, times, solver=inner, s_churn=1.0, s_noise=1.1)
    factor, x, z = 1.2, _start(process, times[0]), _normals(10)
    got = x
    law = []
    for i in range(5):
        rho = process.sigma(times[i]) / process.alpha(times[i])
        t_hat = jd.processes.time_of_log_snr(process, -2 * np.log(factor * rho))
        lift = process.alpha(t_hat) / process.alpha(times[i])
        churn = 1.1 * process.alpha(t_hat) * rho * np.sqrt(factor**2 - 1)
        beyond = dataclasses.replace(process, t_max=2.0)
        step = inner(beyond, [t_hat, times[i + 1]])
        law.append((lift, churn, step))
        if solver != "dpm_2_ancestral":
            got = run(step, lift * got + churn * z[i])
    if solver == "dpm_2_ancestral":  # one z for two noises, whose variances add
        for i in range(1, 5):
            before, (lift, churn, _) = law[i - 1][2].noise[-1, -1, 0], law[i]
            row = 2 * i
            np.testing.assert_allclose(tableau.noise[row, :, 0], np.hypot(lift * before, churn), rtol=1e-9)
            np.testing.assert_allclose(tableau.state[row], lift * law[i - 1][2].state[-1], rtol=1e-9)
    else:
        np.testing.assert_allclose(run(tableau, x, z[:5]), got, rtol=1e-9, atol=1e-11)


def test_no_churn_is_the_solver_itself():
    times = grids.karras(EDM, 5)
    plain = heun(EDM, times)
    np.testing.assert_array_equal(solvers.churn(EDM, times, solver=heun, s_churn=0.0).state, plain.state)
    aside = solvers.churn(EDM, times, solver=heun, s_churn=5.0, s_min=50.0)
    np.testing.assert_allclose(aside.state, plain.state, rtol=1e-14)
    assert not aside.noise.any()
    in_flow = solvers.churn(EDM, times, solver=functools.partial(heun, coordinate="flow"), s_churn=5.0, s_min=50.0)
    np.testing.assert_allclose(in_flow.state, heun(EDM, times, coordinate="flow").state, rtol=1e-14)


@pytest.mark.parametrize("steps", [1, 2, 30])
def test_churn_is_finite_on_every_process(process, steps):
    name = next(name for name, other in PROCESSES.items() if other is process)
    coordinate = "flow" if name in NO_SIGNAL_AT_END else "sigma"
    times = grids.uniform_time(process, steps)
    for end in (process.t_min, process.t_clean):
        times[-1] = end
        for solver in (functools.partial(heun, coordinate=coordinate), ddpm, dpm_solver_pp_singlestep):
            if steps == 30 and solver is dpm_solver_pp_singlestep:
                continue
            with np.errstate(all="raise", under="ignore"):
                tableau = solvers.churn(process, times, solver=solver, s_churn=3.0)
            for leaf in jax.tree.leaves(tableau):
                assert np.isfinite(leaf).all()
            assert jd.processes.same_process(tableau.process, process)
            if name in NO_SIGNAL_AT_END:
                assert not tableau.noise[0].any()
                assert tableau.times[0] == times[0]
            else:
                assert tableau.noise[0].any()
                assert tableau.times[0] > times[0]


def test_churn_where_traced_is_churn(x64):
    process = PROCESSES["vp_cosine"]
    times = grids.uniform_time(process, 3)
    solver = functools.partial(solvers.churn, solver=functools.partial(heun, coordinate="flow"), s_churn=0.8, s_max=3.0)
    here = solver(process, times[:-1])

    def functional(times):
        tableau = solver(process, times)
        return jnp.sum(tableau.noise**2), tableau

    gradient, traced = jax.jit(jax.grad(functional, has_aux=True))(times[:-1])
    for field in ("times", "state", "noise", "history_target"):
        np.testing.assert_allclose(getattr(traced, field), getattr(here, field), rtol=1e-9, atol=1e-11)
    for i in range(3):
        bump = 1e-6 * (np.arange(3) == i) * (1 if i else -1)  # one-sided from the end of time
        numeric = ((solver(process, times[:-1] + bump).noise ** 2).sum() - (here.noise**2).sum()) / bump.sum()
        np.testing.assert_allclose(gradient[i], numeric, rtol=1e-4, atol=1e-6)


def test_churn_calls_the_solver_once_per_step():
    """The cost is linear in the steps: six calls check the solver, and each step is one call."""
    calls = []

    def counted(process, times):
        calls.append(len(times))
        return heun(process, times)

    solvers.churn(EDM, grids.karras(EDM, 100), solver=counted, s_churn=40.0)
    assert len(calls) == 6 + 100


def test_churn_above_t_max_needs_a_process_that_goes_on():
    """A process whose alpha or sigma depends on t_max allows no churn above t_max."""

    class Stretched(jd.processes.Process):
        def alpha(self, t):
            return 1 + 0 * t

        def sigma(self, t):
            return t / self.t_max

    process = Stretched(t_min=0.01, t_max=2.0)
    times = np.linspace(2.0, 0.01, 4)
    with pytest.raises(ValueError, match=r"a time with churn = .* up to t_max = 2"):
        solvers.churn(process, times, solver=heun, s_churn=1.0)
    assert np.isfinite(solvers.churn(process, times, solver=heun, s_churn=0.1, s_max=0.9).state).all()


@pytest.mark.parametrize(
    "solver",
    [
        dpm_solver_pp,
        functools.partial(exponential, order=3),
        functools.partial(exponential, order=1, corrector_order=2),
        functools.partial(solvers.churn, solver=heun, s_churn=1.0),
        functools.partial(solvers.restarts, solver=heun, restarts=(Restart(0.05, 0.3, 2, 3),)),
    ],
)
def test_churn_refuses_solvers_that_carry_something_from_step_to_step(solver):
    with pytest.raises(ValueError, match=r"solver = .*; allowed are one-step solvers"):
        solvers.churn(EDM, grids.karras(EDM, 4), solver=solver, s_churn=1.0)


def test_churn_tells_what_is_wrong_with_the_options_of_its_solver():
    with pytest.raises(ValueError, match=r"eta = 2; allowed are numbers from 0 to 1"):
        solvers.churn(EDM, 4, solver=functools.partial(solvers.ddim, eta=2), s_churn=1.0)


# ------------------------------------------------------------------------------------------ restarts


@pytest.mark.parametrize("name", ["edm", "vp_linear"])
@pytest.mark.parametrize("solver", [heun, dpm_solver_pp])
def test_restarts_as_published(solver, name):
    """The algorithm written out in noise levels, with the same noise: at each interval K times up and down again."""
    process = PROCESSES[name]
    times = grids.karras(process, 8)
    levels = process.sigma(times) / process.alpha(times)
    restarts = [Restart(levels[6] * 1.01, levels[3], 2, 3), Restart(levels[2] * 0.99, levels[1], 1, 2)]
    tableau = solvers.restarts(process, times, solver=solver, restarts=restarts)
    x, z = _start(process, times[0]), _normals(3)
    got = run(tableau, x, z)

    draws, evaluations = iter(z), 0

    def go(x, grid):
        nonlocal evaluations
        piece = solver(process, grid)
        evaluations += len(piece)
        return run(piece, x)

    x = go(x, times[:3])
    for cut, high, repeats, steps, rest in ((2, levels[1], 1, 2, times[2:7]), (6, levels[3], 2, 3, times[6:])):
        low = levels[cut]
        rho = (high ** (1 / 7) + np.arange(steps + 1) / steps * (low ** (1 / 7) - high ** (1 / 7))) ** 7
        grid = jd.processes.time_of_log_snr(process, -2 * np.log(rho))
        for _ in range(repeats):
            z_up = x / process.alpha(times[cut]) + np.sqrt(high**2 - low**2) * next(draws)
            x = go(process.alpha(grid[0]) * z_up, grid)
        x = go(x, rest)
    np.testing.assert_allclose(got, x, rtol=1e-9, atol=1e-11)
    assert len(tableau) == evaluations


def test_restarts_at_the_last_point_and_none():
    times = grids.karras(EDM, 5)[:-1]
    tableau = solvers.restarts(EDM, times, solver=heun, restarts=[Restart(0.01, 1.0, 2, 3)])
    assert len(tableau) == 2 * 4 + 2 * 2 * 3
    none = solvers.restarts(EDM, times, solver=heun, restarts=[])
    np.testing.assert_array_equal(none.state, heun(EDM, times).state)
    # The first point is not restarted at.
    first = solvers.restarts(EDM, times, solver=ddpm, restarts=[Restart(39.0, 40.0, 1, 1)])
    np.testing.assert_allclose(first.times[1], 40.0, rtol=1e-12)
    with np.errstate(all="raise", under="ignore"):
        for process in PROCESSES.values():
            grid = grids.from_sigmas(process, [5.0, 2.5, 1.2, 0.6, 0.3, 0.1, 0.0])
            tableau = solvers.restarts(process, grid, solver=ddpm, restarts=[Restart(0.3, 1.2, 2, 2)])
            assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(tableau))


STOCHASTIC = {  # of one shape
    "heun with churn": lambda p: solvers.churn(p, grids.karras(p, 150), solver=heun, s_churn=20.0),
    "heun with restarts": lambda p: solvers.restarts(
        p, grids.karras(p, 100), solver=heun, restarts=[Restart(0.1, 2.0, 3, 10), Restart(0.5, 5.0, 2, 10)]
    ),
}


@pytest.mark.parametrize("solver", STOCHASTIC)
def test_churn_and_restarts_keep_the_exact_marginal(solver):
    """Kolmogorov-Smirnov tests of projections of 10,000 samples of a mixture."""
    tableau = STOCHASTIC[solver](EDM)
    assert len(tableau) == 299
    noise = jd.prior_sample(jax.random.key(1), EDM, (10_000, 2))
    got = np.asarray(sample(jax.random.key(2), mixture(EDM), noise, tableau))
    assert least_probable_projection(got) > 1e-3, solver


# ------------------------------------------------------------------------------------------ temperature


def _gaussian(process, x, t, std=0.7):
    alpha, sigma = process.alpha(t), process.sigma(t)
    v = alpha**2 * std**2 + sigma**2
    return alpha * std**2 * x / v, sigma * x / v


@pytest.mark.parametrize("temperature", [0.5, 0.9, 1.0, 1.7])
@pytest.mark.parametrize(
    ("solver", "order"),
    [(runge_kutta, 4), (dpm_solver_pp, 2), (functools.partial(dpm_solver_pp_singlestep, order=3), 3)],
)
def test_temperature_against_the_closed_form(solver, order, temperature):
    """For data N(0, s^2) under EDM the docstring gives the solution. Solvers converge to it with their own order."""
    process, std = jd.processes.edm(1e-3, 5.0), 0.7
    error = []
    for steps in (400, 800):
        times = grids.uniform_log_snr(process, steps)
        x = _start(process, times[0])
        got = run(solvers.temperature(process, times, solver=solver, temperature=temperature), x, denoiser=_gaussian)
        want = x * ((std**2 + 1e-3**2) / (std**2 + 5.0**2)) ** (1 / (2 * temperature))
        error.append(np.max(np.abs(got / want - 1)))
    assert np.log2(error[0] / error[1]) >= order - 0.15
    assert error[1] < 1e-3


@pytest.mark.parametrize("name", ["vp_linear", "flow"])
def test_temperature_divides_the_score_in_every_solver(name):
    """The samples are those of a denoiser with tempered estimates, `x0' = (x - sigma eps/T)/alpha`."""
    process = PROCESSES[name]
    times = np.append(grids.uniform_time(process, 8)[1:-1], process.t_clean)

    def tempered(process, x, t):
        eps = estimate(process, x, t)[1] / 0.8
        return (x - process.sigma(t) * eps) / process.alpha(t), eps

    x, z = _start(process, times[0]), _normals(7)
    for solver in (ddim, ddpm, heun, functools.partial(heun, coordinate="flow"), dpm_solver_pp, dpm_2_ancestral):
        plain = solver(process, times)
        count = np.count_nonzero(np.any(plain.noise, axis=(1, 2)))
        got = run(solvers.temperature(process, times, solver=solver, temperature=0.8, noise=0.5), x, z[:count])
        np.testing.assert_allclose(got, run(plain, x, 0.5 * z[:count], tempered), rtol=1e-9, atol=1e-11)
        quiet = solvers.temperature(process, times, solver=solver, temperature=1.0, noise=0.0)
        np.testing.assert_array_equal(quiet.history_target, plain.history_target)
        assert not quiet.noise.any()


def test_temperature_composes_with_churn():
    """In either order, if the temperature leaves the noise unchanged."""
    times = grids.karras(EDM, 5)
    inside = solvers.churn(
        EDM, times, solver=functools.partial(solvers.temperature, solver=heun, temperature=0.8), s_churn=2.0
    )
    outside = solvers.temperature(
        EDM, times, solver=functools.partial(solvers.churn, solver=heun, s_churn=2.0), temperature=0.8
    )
    for one, other in zip(jax.tree.leaves(inside), jax.tree.leaves(outside), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


def test_temperature_where_no_signal_is_left():
    process = PROCESSES["flow"]
    times = grids.uniform_time(process, 4)
    with pytest.raises(ValueError, match=r"temperature = 0\.8; .*alpha > 0"):
        solvers.temperature(process, times, solver=ddim, temperature=0.8)
    with np.errstate(all="raise", under="ignore"):
        same = solvers.temperature(process, times, solver=ddim, temperature=1.0)
        predicts_noise = solvers.temperature(
            process,
            times,
            solver=lambda p, t: dataclasses.replace(ddim(p, t), history_target=np.tile([0.0, 1.0], (4, 1))),
            temperature=0.8,
        )
    np.testing.assert_array_equal(same.history_target, ddim(process, times).history_target)
    np.testing.assert_allclose(predicts_noise.history_target, np.tile([0.0, 1.25], (4, 1)))


# ------------------------------------------------------------------------------------------ wrong arguments


def _reads_before_its_start(process, times):
    """A tableau whose second row reads an estimate from before its start."""
    tableau = dpm_solver_pp(process, times, order=2)
    state = tableau.state.copy()
    state[1, 0, 2] = 0.5
    return dataclasses.replace(tableau, state=state)


def _uneven_noise(process, times):
    """A tableau whose first row adds noise to one of its points only."""
    tableau = heun(process, times)
    noise = np.zeros((len(tableau) + 1, 2, 1))
    noise[0, 0] = 1.0
    return Tableau(process, tableau.times, tableau.state, noise, tableau.history_target)


def _restarts(process, times, *restarts):
    return solvers.restarts(process, times, solver=heun, restarts=restarts)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda p, t: chain(heun, heun(p, t)), TypeError, "first = 'function'; allowed are tableaux"),
        (lambda p, t: chain(heun(p, t), None), TypeError, "second = 'NoneType'"),
        (lambda p, t: chain(heun(p, t), heun(p, t), scale=-1), ValueError, "scale = -1"),
        (lambda p, t: chain(heun(p, t), heun(p, t), noise=np.inf), ValueError, "noise = inf"),
        (
            lambda p, t: chain(heun(p, t), heun(jd.processes.edm(0.02), t[1:3])),
            ValueError,
            "second.process = .*equal to first.process",
        ),
        (
            lambda p, t: chain(heun(p, t), _reads_before_its_start(p, t)),
            ValueError,
            r"second.state\[1.*before its start",
        ),
        (lambda p, t: chain(ddpm(p, t[:3]), _uneven_noise(p, t[2:]), noise=1.0), ValueError, "row sums"),
        (lambda p, t: solvers.churn(p, t, solver="heun", s_churn=1.0), TypeError, "solver = 'heun'"),
        (lambda p, t: solvers.churn(p, t, solver=heun, s_churn=-1.0), ValueError, "s_churn = -1"),
        (lambda p, t: solvers.churn(p, t, solver=heun, s_churn=1.0, s_noise=np.nan), ValueError, "s_noise = nan"),
        (lambda p, t: _restarts(p, t, (0.1, 1.0, 2, 3)), TypeError, r"restarts\[0\] = .*allowed are Restart"),
        (lambda p, t: Restart(1.0, 0.1, 2, 3), ValueError, r"\(sigma_min, sigma_max\) = \(1.0, 0.1\)"),
        (lambda p, t: Restart(0.1, 1.0, 0, 3), ValueError, "repeats = 0"),
        (lambda p, t: Restart(0.1, 1.0, 2, 1.5), ValueError, "steps = 1.5"),
        (lambda p, t: _restarts(p, t, Restart(0.1, 99.0, 2, 3)), ValueError, "sigma_max = 99"),
        (lambda p, t: _restarts(p, t, Restart(1e-4, 1e-3, 2, 3)), ValueError, "sigma_max = 0.001"),
        (lambda p, t: _restarts(p, t[[0, -1]], Restart(1, 2, 2, 3)), ValueError, "to restart at"),
        (lambda p, t: solvers.restarts(p, t, solver=None, restarts=()), TypeError, "solver = None"),
        (lambda p, t: solvers.temperature(p, t, solver=None, temperature=1.0), TypeError, "solver = None"),
        (lambda p, t: solvers.temperature(p, t, solver=heun, temperature=0.0), ValueError, r"temperature = 0\.0"),
        (lambda p, t: solvers.temperature(p, t, solver=heun, temperature=1.0, noise=-1), ValueError, "noise = -1"),
    ],
)
def test_wrong_arguments(make, error, message):
    process = jd.processes.edm()
    with pytest.raises(error, match=message):
        make(process, grids.karras(process, 5))


def test_restarts_need_known_times():
    solver = functools.partial(solvers.restarts, solver=heun, restarts=[Restart(0.1, 1.0, 1, 1)])
    with pytest.raises(ValueError, match="times = traced values"):
        jax.jit(functools.partial(solver, EDM))(grids.karras(EDM, 5))
