"""One-step solvers of several stages: Runge-Kutta, DPM2, singlestep DPM-Solver and DPM-Solver++, in float64."""

import dataclasses
import functools
import itertools

import jax
import numpy as np
import pytest
from common import NO_SIGNAL_AT_END, PROCESSES, least_probable_projection, mixture
from executor import estimate, run
from orders import errors, order

import jaxdiff as jd
from jaxdiff import grids
from jaxdiff.arithmetic import namespace
from jaxdiff.processes import log_snr
from jaxdiff.solvers.ddim import ddim
from jaxdiff.solvers.dpm_2 import dpm_2, dpm_2_ancestral
from jaxdiff.solvers.dpm_solver import dpm_solver, dpm_solver_pp_singlestep, dpmpp_2s_ancestral
from jaxdiff.solvers.runge_kutta import HEUN, KUTTA3, MIDPOINT, RALSTON, RK4, Butcher, runge_kutta

sample = jax.jit(jd.sample)

THREE_EIGHTHS = Butcher(
    ((0, 0, 0, 0), (1 / 3, 0, 0, 0), (-1 / 3, 1, 0, 0), (1, -1, 1, 0)),
    (1 / 8, 3 / 8, 3 / 8, 1 / 8),
    (0, 1 / 3, 2 / 3, 1),
)
EULER = Butcher(((0,),), (1,), (0,))
METHODS = {"euler": EULER, "heun": HEUN, "midpoint": MIDPOINT, "ralston": RALSTON, "kutta 3": KUTTA3, "rk 4": RK4}
ORDERS = {"euler": 1, "heun": 2, "midpoint": 2, "ralston": 2, "kutta 3": 3, "rk 4": 4, "3/8": 4}

DETERMINISTIC = {
    **{
        f"{name}, {coordinate}": (
            functools.partial(runge_kutta, butcher=butcher, coordinate=coordinate),
            ORDERS[name],
        )
        for name, butcher in {**METHODS, "3/8": THREE_EIGHTHS}.items()
        for coordinate in ("sigma", "flow")
    },
    "dpm_2": (dpm_2, 2),
    **{f"dpm_solver {order}": (functools.partial(dpm_solver, order=order), order) for order in (1, 2, 3)},
    **{f"++ {order}": (functools.partial(dpm_solver_pp_singlestep, order=order), order) for order in (1, 2, 3)},
}
STOCHASTIC = {
    "dpm_2_ancestral": dpm_2_ancestral,
    "dpm_2_ancestral 0.5": functools.partial(dpm_2_ancestral, eta=0.5),
    "dpmpp_2s_ancestral": dpmpp_2s_ancestral,
    "dpmpp_2s_ancestral 0.5": functools.partial(dpmpp_2s_ancestral, eta=0.5),
}
EVERY = {**{name: make for name, (make, _) in DETERMINISTIC.items()}, **STOCHASTIC}


def _stages(solver):
    method = solver.split(",")[0]
    if method in ORDERS:
        return ORDERS[method]  # the same number up to order 4
    return int(solver[-1]) if solver.startswith(("dpm_solver", "++")) else 2


def _starts_without_signal(solver):
    return "flow" in solver or "++" in solver or "dpmpp" in solver


@functools.cache
def _errors(name):
    return errors(name, {solver: make for solver, (make, _) in DETERMINISTIC.items()}, (160, 320))


@pytest.mark.parametrize("name", ["vp_cosine", "flow"])
@pytest.mark.parametrize("solver", DETERMINISTIC)
def test_order_of_convergence(solver, name):
    error, nominal = _errors(name)[solver], DETERMINISTIC[solver][1]
    print(f"| {solver} | {name} | {error[0]:.2e} | {error[1]:.2e} | {order(error):.2f} |")
    assert nominal - 0.15 <= order(error) <= nominal + 0.5


@pytest.mark.parametrize("name", METHODS)
def test_the_tables_meet_the_order_conditions(name):
    """The sums that Butcher's theory demands of a method of each order."""
    a, b, c = (np.array(side, np.float64) for side in dataclasses.astuple(METHODS[name]))
    conditions = {
        2: [(b @ c, 1 / 2)],
        3: [(b @ c**2, 1 / 3), (b @ a @ c, 1 / 6)],
        4: [(b @ c**3, 1 / 4), ((b * c) @ a @ c, 1 / 8), (b @ a @ c**2, 1 / 12), (b @ a @ a @ c, 1 / 24)],
    }
    met = [all(np.isclose(got, want) for got, want in conditions[order]) for order in (2, 3, 4)]
    assert met[: ORDERS[name] - 1] == [True] * (ORDERS[name] - 1)
    assert not all(met[ORDERS[name] - 1 :]) or ORDERS[name] == 4


@pytest.mark.parametrize("coordinate", ["sigma", "flow"])
def test_runge_kutta_as_the_textbook_has_it(coordinate):
    """Kutta's 3/8 rule on `dz/dr = F`, step by step."""
    process = PROCESSES["vp_linear"]
    times = grids.uniform_time(process, 5)
    x = np.random.default_rng(0).normal(size=(4, 2))

    def at(t):
        alpha, sigma = process.alpha(t), process.sigma(t)
        return (alpha, sigma / alpha) if coordinate == "sigma" else (alpha + sigma, sigma / (alpha + sigma))

    def velocity(z, r):
        rho = r if coordinate == "sigma" else r / (1 - r)
        t = jd.processes.time_of_log_snr(process, -2 * np.log(rho))
        x0, eps = estimate(process, z * at(t)[0], t)
        return eps if coordinate == "sigma" else eps - x0

    z = x / at(times[0])[0]
    for t, s in itertools.pairwise(times):
        r, h = at(t)[1], at(s)[1] - at(t)[1]
        k1 = velocity(z, r)
        k2 = velocity(z + h * k1 / 3, r + h / 3)
        k3 = velocity(z + h * (k2 - k1 / 3), r + 2 * h / 3)
        k4 = velocity(z + h * (k1 - k2 + k3), r + h)
        z = z + h * (k1 + 3 * k2 + 3 * k3 + k4) / 8
    got = run(runge_kutta(process, times, butcher=THREE_EIGHTHS, coordinate=coordinate), x)
    np.testing.assert_allclose(got, z * at(times[-1])[0], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("data", [False, True])
def test_singlestep_methods_as_published(data, order):
    """DPM-Solver-2 and -3 (arXiv 2206.00927, algorithms 1 and 2) and DPM-Solver++ (arXiv 2211.01095), step by step."""
    process = PROCESSES["vp_linear"]
    times = grids.uniform_log_snr(process, 4)
    alpha, sigma = process.alpha, process.sigma
    x = np.random.default_rng(1).normal(size=(4, 2))
    got = run((dpm_solver_pp_singlestep if data else dpm_solver)(process, times, order=order), x)

    def model(x, t):
        return estimate(process, x, t)[0 if data else 1]

    def keep(s, t):
        return sigma(s) / sigma(t) if data else alpha(s) / alpha(t)

    def phi1(s, h):
        return -alpha(s) * np.expm1(-h) if data else -sigma(s) * np.expm1(h)

    def phi2(s, h):
        return alpha(s) * (np.expm1(-h) / h + 1) if data else -sigma(s) * (np.expm1(h) / h - 1)

    for t, s in itertools.pairwise(times):
        l = log_snr(process, t) / 2
        h = log_snr(process, s) / 2 - l
        f = model(x, t)
        r1, r2 = (1 / 2, None) if order == 2 else (1 / 3, 2 / 3)
        t1 = jd.processes.time_of_log_snr(process, 2 * (l + r1 * h))
        f1 = model(keep(t1, t) * x + phi1(t1, r1 * h) * f, t1)
        if order == 2:
            x = keep(s, t) * x + phi1(s, h) * f + phi1(s, h) / (2 * r1) * (f1 - f)
        else:
            t2 = jd.processes.time_of_log_snr(process, 2 * (l + r2 * h))
            x2 = keep(t2, t) * x + phi1(t2, r2 * h) * f + r2 / r1 * phi2(t2, r2 * h) * (f1 - f)
            x = keep(s, t) * x + phi1(s, h) * f + phi2(s, h) / r2 * (model(x2, t2) - f)
    np.testing.assert_allclose(got, x, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("name", ["edm", "vp_linear"])
@pytest.mark.parametrize("data", [False, True])
def test_second_order_ancestral_samplers_as_published(data, name, eta):
    """k-diffusion's samplers written out in noise levels and x/alpha, with the same noise."""
    process = PROCESSES[name]
    times = grids.karras(process, 6)
    rng = np.random.default_rng(2)
    x, draws = rng.normal(size=(4, 2)), rng.normal(size=(5, 4, 2))
    make = dpmpp_2s_ancestral if data else dpm_2_ancestral
    tableau = make(process, times, eta=eta)
    assert len(tableau) == 11
    assert tableau.noise.shape[-1] == (eta > 0)
    got = run(tableau, x, draws if eta else ())
    levels = process.sigma(times) / process.alpha(times)

    def denoised(z, level):
        t = jd.processes.time_of_log_snr(process, -2 * np.log(level))
        return estimate(process, process.alpha(t) * z, t)[0]

    z = x / process.alpha(times[0])
    for i in range(6):
        up = min(levels[i + 1], eta * np.sqrt(levels[i + 1] ** 2 * (levels[i] ** 2 - levels[i + 1] ** 2)) / levels[i])
        down = np.sqrt(levels[i + 1] ** 2 - up**2)
        first = denoised(z, levels[i])
        d = (z - first) / levels[i]
        if down == 0:
            z = z + d * (down - levels[i])
            continue
        middle = np.exp((np.log(levels[i]) + np.log(down)) / 2)
        if data:
            second = denoised(middle / levels[i] * z + (1 - middle / levels[i]) * first, middle)
            z = down / levels[i] * z + (1 - down / levels[i]) * second
        else:
            z_middle = z + d * (middle - levels[i])
            z = z + (z_middle - denoised(z_middle, middle)) / middle * (down - levels[i])
        z = z + up * draws[i]
    np.testing.assert_allclose(got, z * process.alpha(times[-1]), rtol=1e-8, atol=1e-10)


def test_dpm_2_is_its_ancestral_form_without_noise():
    process = PROCESSES["vp_linear"]
    times = grids.karras(process, 5)
    for one, other in ((dpm_2, dpm_2_ancestral), (dpm_solver_pp_singlestep, dpmpp_2s_ancestral)):
        a, b = one(process, times), other(process, times, eta=0.0)
        for field in ("times", "state", "noise", "history_target"):
            np.testing.assert_array_equal(getattr(a, field), getattr(b, field))


@pytest.mark.parametrize("name", ["vp_linear", "ve", "flow"])
def test_all_first_order_methods_are_ddim(name):
    process = PROCESSES[name]
    times = np.append(grids.uniform_time(process, 6)[1:-1], process.t_clean)
    x = np.random.default_rng(3).normal(size=(4, 2)) * process.sigma(times[0])
    want = run(ddim(process, times), x)
    for solver in ("euler, sigma", "euler, flow", "dpm_solver 1", "++ 1"):
        tableau = EVERY[solver](process, times)
        assert len(tableau) == 5
        np.testing.assert_allclose(run(tableau, x), want, rtol=1e-10, atol=1e-12, err_msg=solver)


def test_the_number_of_evaluations():
    """A step has one evaluation per stage, and one in all if a stage would be evaluated without noise or signal."""
    process = PROCESSES["flow"]
    inner = grids.uniform_time(process, 6)[1:-1]
    clean, full = np.append(inner, 0.0), np.append(1.0, np.append(inner, 0.0))
    for solver, make in EVERY.items():
        stages = _stages(solver)
        stage_at_the_end = not solver.startswith(("midpoint", "ralston"))
        assert len(make(process, inner)) == 4 * stages, solver
        assert len(make(process, clean)) == (4 * stages + 1 if stage_at_the_end else 5 * stages), solver
        if not _starts_without_signal(solver):
            continue
        at_start = 1 if "++" in solver or "dpmpp" in solver else stages
        assert len(make(process, full)) == at_start + 4 * stages + (1 if stage_at_the_end else stages), solver


@pytest.mark.parametrize("steps", [1, 2, 1000])
def test_coefficients_are_finite_on_every_process(process, steps):
    """Even where alpha is 0 at the first time or sigma at the last, and without a warning from NumPy."""
    name = next(name for name, other in PROCESSES.items() if other is process)
    times = grids.uniform_time(process, steps)
    for end in (process.t_min, process.t_clean):
        times[-1] = end
        for solver, make in EVERY.items():
            if name in NO_SIGNAL_AT_END and not _starts_without_signal(solver):
                with pytest.raises(ValueError, match="alpha > 0"):
                    make(process, times)
                continue
            with np.errstate(all="raise", under="ignore"):
                tableau = make(process, times)
            for leaf in jax.tree.leaves(tableau):
                assert np.isfinite(leaf).all(), solver


def _single(tableau):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), tableau)


def _gaussian_on(tableau):
    """The denoiser of data from N(0.5, 0.3^2) in float32, at the times of a tableau."""
    levels = zip(tableau.process.alpha(tableau.times), tableau.process.sigma(tableau.times), strict=True)
    level = dict(zip(tableau.times.tolist(), levels, strict=True))

    def denoiser(process, x, t):
        alpha, sigma = level[float(t)]
        centred = (x - alpha * np.float32(0.5)) / (alpha**2 * np.float32(0.09) + sigma**2)
        return np.float32(0.5) + alpha * np.float32(0.09) * centred, sigma * centred

    return denoiser


@pytest.mark.parametrize("name", ["vp_linear", "vp_discrete_cosine", "ve", "edm", "flow"])
def test_float32_samples_get_better_with_more_steps(name):
    """For Gaussian data the ODE takes x to `0.5 + (x - alpha 0.5) 0.3/std_T`."""
    process = PROCESSES[name]
    alpha, sigma = process.alpha(np.float64(process.t_max)), process.sigma(np.float64(process.t_max))
    x = sigma * np.random.default_rng(4).normal(size=(50, 1))
    want = 0.5 + (x - alpha * 0.5) * 0.3 / np.sqrt(alpha**2 * 0.09 + sigma**2)
    tried = 0
    for solver in ("ralston, flow", "rk 4, flow", "heun, sigma", "dpm_solver 3", "++ 2", "++ 3", "dpmpp_2s_ancestral"):
        if name in NO_SIGNAL_AT_END and not _starts_without_signal(solver):
            continue
        found = []
        for steps in (1, 10, 1000):
            times = np.append(grids.uniform_time(process, steps)[:-1], process.t_clean)
            tableau = _single(EVERY[solver](process, times))
            count = np.count_nonzero(np.any(tableau.noise, axis=(1, 2)))
            draws = np.random.default_rng(5).normal(size=(count, *x.shape)).astype(np.float32)
            got = run(tableau, x.astype(np.float32), draws, _gaussian_on(tableau))
            assert np.isfinite(got).all(), (solver, steps)
            found.append(np.sqrt(np.mean((got - want) ** 2)))
        if solver != "dpmpp_2s_ancestral":
            assert found[2] <= found[1] * 1.01 + 1e-4, (solver, found)
        tried += 1
    assert tried >= 5


@pytest.mark.parametrize("solver", ["dpm_2_ancestral", "dpmpp_2s_ancestral"])
def test_stochastic_solvers_have_the_exact_marginal(solver):
    """Kolmogorov-Smirnov tests of projections of 10,000 samples of a mixture."""
    process = jd.processes.edm(0.01, 40.0)
    tableau = STOCHASTIC[solver](process, grids.karras(process, 100))
    noise = jd.prior_sample(jax.random.key(1), process, (10_000, 2))
    got = np.asarray(sample(jax.random.key(2), mixture(process), noise, tableau))
    assert least_probable_projection(got) > 1e-3, solver


@pytest.mark.parametrize(
    ("name", "solver"),
    [
        ("edm", "dpm_solver 3"),
        ("vp_cosine", "kutta 3, flow"),
        ("vp_cosine", "dpmpp_2s_ancestral"),
    ],
)
def test_derivatives_by_the_grid(name, solver, x64):
    """Inside the process, against central differences. At singular ends they are finite."""
    process, make = PROCESSES[name], EVERY[solver]

    def functional(times):
        xp, tableau = namespace(times), make(process, times)
        parts = xp.concatenate([part.ravel() for part in (tableau.state, tableau.noise, tableau.times)])
        return xp.sum(xp.sin(parts * np.arange(1, 1 + parts.size)))

    inner = grids.uniform_log_snr(process, 3, log_snr_min=-4.0, log_snr_max=4.0)
    ends = np.append(grids.uniform_time(process, 3)[:-1], process.t_clean)
    found, finite = np.asarray(jax.jit(jax.vmap(jax.grad(functional)))(np.stack([inner, ends])))
    assert np.isfinite(finite).all()
    for i in range(4):
        h = 1e-6 * inner[i]
        bump = h * (np.arange(4) == i)
        numeric = (functional(inner + bump) - functional(inner - bump)) / (2 * h)
        np.testing.assert_allclose(found[i], numeric, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("solver", ["kutta 3, flow", "++ 1", "++ 3", "dpmpp_2s_ancestral"])
def test_traced_times_to_the_ends_sample_the_same(solver, x64):
    """With traced times no stage can be left out. There are more rows, and the same samples."""
    process = PROCESSES["flow"]
    times = grids.uniform_time(process, 4)
    here, traced = EVERY[solver](process, times), jax.jit(lambda times: EVERY[solver](process, times))(times)
    traced = jax.tree.map(np.asarray, traced)
    assert len(traced) >= len(here)
    rng = np.random.default_rng(6)
    x, draws = rng.normal(size=(4, 2)), rng.normal(size=(4, 4, 2))
    draws = draws[: np.count_nonzero(np.any(here.noise, axis=(1, 2)))]

    def finite(process, x, t):
        assert process.sigma(t) > 0
        return estimate(process, x, t)

    np.testing.assert_allclose(run(traced, x, draws, finite), run(here, x, draws), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda p, t: runge_kutta(p, t, butcher=4), TypeError, "butcher = 4; allowed are .*RK4"),
        (lambda p, t: runge_kutta(p, t, butcher="rk3"), ValueError, "butcher = 'rk3'.*did you mean 'rk4'"),
        (
            lambda p, t: runge_kutta(p, t, butcher=dataclasses.replace(RK4, b=(1, 0, 0))),
            ValueError,
            r"shapes of butcher = \[\(4, 4\), \(3,\)",
        ),
        (
            lambda p, t: runge_kutta(p, t, butcher=dataclasses.replace(HEUN, a=((0,), (1, 0)))),
            ValueError,
            "arrays of numbers",
        ),
        (
            lambda p, t: runge_kutta(p, t, butcher=dataclasses.replace(RK4, b=(1, 1, 0, 0))),
            ValueError,
            r"butcher.b = \[1.*sum to 1",
        ),
        (
            lambda p, t: runge_kutta(p, t, butcher=dataclasses.replace(HEUN, c=(0, 0.5))),
            ValueError,
            r"row sums of butcher.a, \[0",
        ),
        (lambda p, t: runge_kutta(p, t, butcher=Butcher(((1,),), (1,), (1,))), ValueError, "explicit"),
        (lambda p, t: runge_kutta(p, t, butcher=Butcher(((0, 0), (2, 0)), (1, 0), (0, 2))), ValueError, "at most 1"),
        (lambda p, t: runge_kutta(p, t, coordinate="sigm"), ValueError, "'sigm'.*'sigma'"),
        (lambda p, t: dpm_solver(p, t, order=4), ValueError, "order = 4"),
        (lambda p, t: dpm_solver_pp_singlestep(p, t, order=0), ValueError, "order = 0"),
        (lambda p, t: dpm_2_ancestral(p, t, eta=1.5), ValueError, "eta = 1.5"),
        (lambda p, t: dpmpp_2s_ancestral(p, t, eta=float("nan")), ValueError, "eta = nan"),
    ],
)
def test_wrong_arguments(make, error, message):
    process = jd.processes.edm()
    with pytest.raises(error, match=message):
        make(process, grids.karras(process, 5))
