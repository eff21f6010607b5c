"""Solvers: exact special cases, coefficients at singular ends, samples in float32, derivatives, wrong arguments.

Orders of convergence are in `test_solvers_orders`, the marginals of stochastic solvers in `test_solvers_marginals`, and
one-step methods in `test_solvers_stages`.
"""

import functools
import itertools
import warnings

import executor
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import PROCESSES, least_probable_projection, mixture
from scipy import integrate
from test_solvers_marginals import STOCHASTIC
from test_solvers_orders import MULTISTEP

import jaxdiff as jd
from jaxdiff import grids, solvers, trees
from jaxdiff.processes import log_snr

sample = jax.jit(jd.sample)
EVERY = {name: make for name, (make, _) in {**MULTISTEP, **STOCHASTIC}.items()}


@pytest.mark.parametrize("solver", ["ddpm", "sa_solver", "dpm_solver_pp 2, tau 1", "euler_maruyama"])
def test_stochastic_samples_have_the_exact_marginal(solver):
    """Kolmogorov-Smirnov on projections of 10,000 samples of a mixture, whose projections are mixtures again."""
    process = jd.processes.edm(0.01, 40.0)
    tableau = EVERY[solver](process, grids.karras(process, 150))
    noise = jd.prior_sample(jax.random.key(1), process, (10_000, 2))
    got = np.asarray(sample(jax.random.key(2), mixture(process), noise, tableau))
    # The last step to sigma = 0 returns the posterior mean at sigma = 0.01: data but for that much.
    assert least_probable_projection(got) > 1e-3, solver


def test_ddpm_of_a_gaussian_has_the_variance_of_its_own_recursion(x64):
    """With few steps the marginal is not yet the data's: the affine recursion of means and variances, step by step, is
    exact.
    """
    process, std, mean = jd.processes.vp_discrete(), 0.7, 1.5
    times = grids.discrete(process, 10)
    denoiser = jd.denoisers.gaussian(process, mean, std)
    n = 200_000
    got = np.asarray(
        sample(jax.random.key(0), denoiser, jax.random.normal(jax.random.key(1), (n, 1)), solvers.ddpm(process, times))
    )
    m, v = 0.0, 1.0
    for t, s in itertools.pairwise(times):
        at, st, a_s, ss = process.alpha(t), process.sigma(t), process.alpha(s), process.sigma(s)
        # DDPM's posterior q(x_s | x_t, x0), Ho et al. 2020 equations 6 and 7, with beta = 1 - (alpha_t/alpha_s)^2.
        beta = 1 - (at / a_s) ** 2
        on_x0, on_x = a_s * beta / st**2, (at / a_s) * ss**2 / st**2
        gain = at * std**2 / (at**2 * std**2 + st**2)
        slope = on_x + on_x0 * gain
        m, v = slope * m + on_x0 * (mean - gain * at * mean), slope**2 * v + beta * ss**2 / st**2
    np.testing.assert_allclose(got.mean(), m, atol=5 * np.sqrt(v / n))
    np.testing.assert_allclose(got.var(), v, rtol=5 * np.sqrt(2 / n))


def test_ddim_at_eta_one_is_ddpm_is_the_first_order_sde(process):
    """Three derivations of one sampler: the posterior, DDIM's family, the exponential integrator with tau = 1."""
    times = _grid(process, 12)
    a, b = solvers.ddpm(process, times), solvers.exponential(process, times, order=1, tau=1.0)
    for name in ("state", "noise", "history_target", "times"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=1e-9, atol=1e-12)
    c, d = solvers.ddim(process, times), solvers.dpm_solver_pp(process, times, order=1)
    np.testing.assert_allclose(c.state, d.state, rtol=1e-9, atol=1e-12)


def _grid(process, steps):
    """Karras' grid where it is defined, and from pure noise where it is not."""
    if process.alpha(np.float64(process.t_max)) > 0 and process.sigma(np.float64(process.t_min)) > 0:
        return grids.karras(process, steps)
    return grids.uniform_time(process, steps)


def test_polynomials_are_integrated_exactly(x64):
    """Order q is exact where x0 is a polynomial of degree q - 1 in l: then any step, tiny or large, gives the exact
    end.
    """
    process = jd.processes.edm(1e-3, 1e3)
    for order in (2, 3, 4):
        coefficients = np.random.default_rng(order).normal(size=order)
        for steps in (5, 400):
            times = grids.uniform_log_snr(process, steps)
            tableau = solvers.exponential(process, times, order=order, lower_order=False)
            l = log_snr(process, times) / 2
            # Begin where enough is remembered: all estimates of the polynomial, exact until there.
            x = 1.7
            history = [np.polyval(coefficients, l[i]) for i in range(order - 1)]
            for i in range(order - 1, steps):
                history.append(np.polyval(coefficients, l[i]))
                row = tableau.state[i + 1, 0]
                x_new = row[0] * x + sum(row[1 + j] * history[-1 - j] for j in range(order))
                # The integrating factor's exact solution, by adaptive quadrature.
                integral = integrate.quad(
                    lambda u, end, c: np.exp(u - end) * np.polyval(c, u),
                    l[i],
                    l[i + 1],
                    args=(l[i + 1], coefficients),
                    epsabs=1e-13,
                    epsrel=1e-13,
                )[0]
                exact = process.sigma(times[i + 1]) / process.sigma(times[i]) * x + integral
                np.testing.assert_allclose(x_new, exact, rtol=1e-9, atol=1e-11)
                x = x_new


def test_the_published_midpoint_forms():
    """DPM-Solver++ 2M (algorithm 2) and the 3M of k-diffusion, written out term by term."""
    process = jd.processes.vp_linear()
    times = grids.uniform_log_snr(process, 6)
    alpha, sigma, l = process.alpha(times), process.sigma(times), log_snr(process, times) / 2
    rng = np.random.default_rng(0)
    x, d0, d1, d2 = rng.normal(size=4)
    i = 3
    h, h1, h2 = l[i + 1] - l[i], l[i] - l[i - 1], l[i - 1] - l[i - 2]
    two = solvers.dpm_solver_pp(process, times, order=2, variant="midpoint", lower_order=False).state[i + 1, 0]
    r = h1 / h
    want = sigma[i + 1] / sigma[i] * x - alpha[i + 1] * np.expm1(-h) * ((1 + 1 / (2 * r)) * d0 - 1 / (2 * r) * d1)
    np.testing.assert_allclose(two @ [x, d0, d1], want, rtol=1e-12)
    three = solvers.dpm_solver_pp(process, times, order=3, variant="midpoint", lower_order=False).state[i + 1, 0]
    r0, r1 = h1 / h, h2 / h
    s0, s1 = (d0 - d1) / r0, (d1 - d2) / r1
    first, second = s0 + (s0 - s1) * r0 / (r0 + r1), (s0 - s1) / (r0 + r1)
    phi2 = np.expm1(-h) / h + 1
    want = sigma[i + 1] / sigma[i] * x - alpha[i + 1] * (np.expm1(-h) * d0 - phi2 * first + (phi2 / h - 0.5) * second)
    np.testing.assert_allclose(three @ [x, d0, d1, d2], want, rtol=1e-10)


def _moves_x_over_alpha(solver):
    """Whether a solver moves x/alpha, which is infinite where no signal is left."""
    return any(name in solver for name in ("noise", "deis", "lms", "pndm", "dpm_2"))


def _tableaux(process, steps):
    """Every solver on two grids: one that ends at t_min, one that ends without noise."""
    singular = process.alpha(np.float64(process.t_max)) == 0
    uniform = grids.uniform_time(process, steps)
    for times in (uniform, np.append(uniform[:-1], process.t_clean)):
        for solver, make in EVERY.items():
            # From no signal noise prediction cannot start, nor plain discretisations of the SDE, one of which has no end
            # at minus infinity either: each says so.
            plain = "reverse_diffusion" in solver and singular
            plain |= "euler_maruyama" in solver and (singular or np.isinf(times[-1]))
            if plain or (singular and _moves_x_over_alpha(solver)):
                with pytest.raises(ValueError, match=r"alpha = 0|alpha > 0"):
                    make(process, times)
            else:
                yield solver, times, make(process, times)


@pytest.mark.parametrize("steps", [1, 2, 3, 50, 1000])
def test_coefficients_are_finite_on_every_process(process, steps):
    """From the first time, where alpha may be 0, to the last, where sigma is; and nothing is computed on the way that
    NumPy warns of.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = list(_tableaux(process, steps))
    assert len(made) > 25
    for solver, _, tableau in made:
        for leaf in (tableau.state, tableau.noise, tableau.times[:-1], tableau.history_target):
            assert np.isfinite(leaf).all(), solver


def _float32(tableau):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), tableau)


def _estimate_in_float32(process, x, t):
    x0 = executor.estimate(process, x, t)[0].astype(np.float32)
    alpha, sigma = np.float32(process.alpha(t)), np.float32(process.sigma(t))
    return x0, (x - alpha * x0) / sigma


# Where the ODE takes x_T to, as x/alpha, from a ratio sigma/alpha and to one.
ENDS = {
    "edm, karras": (lambda p, n: grids.karras(p, n), 80.0, 0.0),
    "edm, to t_min": (lambda p, n: grids.uniform_log_snr(p, n), 80.0, 0.002),
    "vp_linear": (lambda p, n: grids.uniform_log_snr(p, n), None, None),
    "flow, to the end": (lambda p, n: grids.uniform_time(p, n), None, 0.0),
}


@pytest.mark.parametrize("case", ENDS)
@pytest.mark.parametrize("solver", MULTISTEP)
def test_more_steps_are_no_worse_in_float32(solver, case):
    """10, 100 and 1,000 steps in single precision throughout, with the exact denoiser, against the ODE's solution; one
    step is there to be finite (its answer, next to the mean of the data, can be better than a wild one of ten).
    """
    make, grid = EVERY[solver], ENDS[case][0]
    process = PROCESSES[case.split(",")[0]]
    x, exact = _ends(case)
    errors = []
    if case == "flow, to the end" and (
        solver.startswith(("reverse_diffusion", "euler_maruyama")) or _moves_x_over_alpha(solver)
    ):
        return  # refused: `test_coefficients_are_finite_on_every_process`
    for steps in (1, 10, 100, 1000):
        tableau = make(process, grid(process, steps))
        got = executor.run(_float32(tableau), x.astype(np.float32), denoiser=_estimate_in_float32)
        assert got.dtype == np.float32
        assert np.isfinite(got).all()
        errors.append(np.sqrt(np.mean((got - exact) ** 2)))
    print(solver, case, [f"{e:.1e}" for e in errors])
    # Down to what single precision leaves of 1,000 sums.
    assert errors[2] <= max(errors[1], 1e-4)
    assert errors[3] <= max(errors[2], 1e-4)


@functools.cache
def _ends(case):
    process = PROCESSES[case.split(",")[0]]
    start, stop = (process.sigma(t) / max(process.alpha(t), 1e-6) for t in (process.t_max, process.t_min))
    y = np.random.default_rng(2).normal(size=(16, 2)) * start
    end = executor.ode_end(y, start, stop)
    return y * max(process.alpha(process.t_max), 1e-6), end * process.alpha(process.t_min)


@pytest.mark.parametrize("name", ["vp_discrete", "flow"])
def test_samples_are_finite_and_right_in_float32(name):
    """Through the compiled sampler, once for each shape of tableau."""
    process = PROCESSES[name]
    denoiser = jd.denoisers.gaussian(process, 0.5, 0.3)
    noise = jd.prior_sample(jax.random.key(1), process, (400, 1))
    seen = set()
    for solver, _, tableau in _tableaux(process, 40):
        shape = tuple(np.shape(leaf) for leaf in jax.tree.leaves(tableau))
        if shape in seen:
            continue
        seen.add(shape)
        got = np.asarray(sample(jax.random.key(0), denoiser, noise, tableau))
        assert np.isfinite(got).all(), solver
        assert abs(got.mean() - 0.5) < 0.15, (solver, got.mean())
    assert len(seen) > 5


@pytest.mark.parametrize("solver", ["pndm", "sa_solver", "uni_pc 3", "dpm_solver_pp 3, tau 1", "ddpm large"])
def test_the_sampler_does_what_the_tableau_says(solver, x64):
    """The compiled scan against a loop over the rows in NumPy, with the noise that the scan draws."""
    process = PROCESSES["vp_linear"]
    tableau = EVERY[solver](process, grids.uniform_log_snr(process, 7))
    key, x = jax.random.key(3), jax.random.normal(jax.random.key(4), (5, 2))
    got = sample(key, mixture(process), x, tableau)
    noisy = [i for i in range(len(tableau) + 1) if np.any(tableau.noise[i])]
    draws = [np.asarray(trees.normal_like(jax.random.fold_in(key, i), x)) for i in noisy]
    np.testing.assert_allclose(got, executor.run(tableau, np.asarray(x), draws), rtol=1e-10, atol=1e-11)


def test_members_of_the_family():
    """One tableau under two names."""
    process = PROCESSES["vp_linear"]
    times = grids.polynomial(process, 9)
    same = functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-12)
    exponential = functools.partial(solvers.exponential, process, times)
    for tau in (0.0, 1.0):
        for order in (1, 2, 3):
            a = solvers.dpm_solver_pp(process, times, order=order, tau=tau)
            b = exponential(order=order, tau=tau)
            same(a.state, b.state)
            same(a.noise, b.noise)
        a = solvers.dpm_solver_pp(process, times, order=2, variant="heun", tau=tau)
        same(a.state, exponential(order=2, tau=tau).state)
    same(solvers.deis(process, times, order=3).state, exponential(order=3, prediction="noise").state)
    same(
        solvers.lms(process, times).state,
        solvers.deis(process, times, order=4, coordinate="sigma", lower_order=False).state,
    )
    a = solvers.sa_solver(process, times, predictor_order=2, corrector_order=3, tau=0.0)
    same(a.state, exponential(order=2, corrector_order=3).state)
    # From three estimates on UniPC's predictor and corrector are exact.
    a, b = (f(process, times, order=3, lower_order=False) for f in (solvers.uni_pc, _exact_uni_pc))
    same(a.state[5:], b.state[5:])
    assert not np.allclose(a.state[2], b.state[2])
    # Of first order all predictions, and all coordinates, are DDIM's step.
    x = np.random.default_rng(0).normal(size=(4, 2))
    ddim = executor.run(solvers.ddim(process, times), x)
    for prediction in ("data", "noise", "velocity"):
        same(executor.run(exponential(order=1, prediction=prediction), x), ddim)
    for coordinate in ("log_snr", "sigma", "time"):
        same(executor.run(solvers.deis(process, times, order=1, coordinate=coordinate), x), ddim)


def _exact_uni_pc(process, times, order, lower_order):
    return solvers.exponential(process, times, order=order, corrector_order=order + 1, lower_order=lower_order)


def test_uni_pc_as_published():
    """Zhao et al. 2023, algorithms 1 and 2 for order 2 in data prediction, written out with B(h) and rho_c from R rho = b."""
    process = PROCESSES["vp_linear"]
    times = grids.uniform_time(process, 5)
    alpha, sigma, l = process.alpha(times), process.sigma(times), log_snr(process, times) / 2
    rng = np.random.default_rng(0)
    i = 3
    base, predicted, new, last, older = rng.normal(size=5)  # x at i - 1, x~ at i, and x0 at i, i - 1, i - 2
    for variant, scale in (("bh1", lambda h: -h), ("bh2", lambda h: np.expm1(-h))):
        tableau = solvers.uni_pc(process, times, order=2, variant=variant, lower_order=False)
        got = tableau.state[i + 1] @ np.array([base, predicted, new, last, older])

        def step(x, i, m0, extra, scale=scale):
            h = l[i + 1] - l[i]
            return sigma[i + 1] / sigma[i] * x - alpha[i + 1] * np.expm1(-h) * m0 - alpha[i + 1] * scale(h) * extra

        h, before = l[i] - l[i - 1], l[i - 1] - l[i - 2]
        r = np.array([-before / h, 1.0])
        phi1 = np.expm1(-h) / -h
        phi2 = (phi1 - 1) / -h
        phi3 = (phi2 - 1 / 2) / -h
        b = np.array([phi2, 2 * phi3]) * -h / scale(h)
        rho = np.linalg.solve(np.array([[1.0, 1.0], r]), b)
        corrected = step(base, i - 1, last, rho[0] * (older - last) / r[0] + rho[1] * (new - last))
        h, before = l[i + 1] - l[i], l[i] - l[i - 1]
        arrived = step(corrected, i, new, 0.5 * (last - new) / (-before / h))
        np.testing.assert_allclose(got, [corrected, arrived], rtol=1e-10)


@pytest.mark.parametrize("warm_up", ["runge_kutta", "heun"])
def test_pndm_as_published(warm_up):
    """Liu et al. 2022, algorithm 2, and PLMS as latent diffusion begins it, as a loop, for any number of steps."""
    process = PROCESSES["vp_linear"]
    x = np.random.default_rng(0).normal(size=(4, 2))
    weights = {1: [1], 2: [1.5, -0.5], 3: [23 / 12, -16 / 12, 5 / 12], 4: [55 / 24, -59 / 24, 37 / 24, -9 / 24]}

    def eps(y, t):
        nonlocal asked
        asked += 1
        return executor.estimate(process, y, t)[1]

    def phi(y, e, t, s):
        keep = process.alpha(s) / process.alpha(t)
        return keep * y + (process.sigma(s) - keep * process.sigma(t)) * e

    for steps, end in itertools.product((1, 2, 3, 4, 9), (1e-3, 0.0)):
        times = np.append(grids.uniform_time(process, steps)[:-1], end)
        y, known, asked = x, [], 0
        for i, (t, s) in enumerate(itertools.pairwise(times)):
            e = e1 = eps(y, t)
            known.insert(0, e1)
            if i < 3 and s > 0 and warm_up == "runge_kutta":
                m = (t + s) / 2
                e2 = eps(phi(y, e1, t, m), m)
                e3 = eps(phi(y, e2, t, m), m)
                e4 = eps(phi(y, e3, t, s), s)
                e = (e1 + 2 * e2 + 2 * e3 + e4) / 6
            elif i == 0 and s > 0 and warm_up == "heun":
                e = (e1 + eps(phi(y, e1, t, s), s)) / 2
            else:
                e = sum(w * e for w, e in zip(weights[min(i + 1, 4)], known, strict=False))
            y = phi(y, e, t, s)
        tableau = solvers.pndm(process, times, warm_up=warm_up)
        assert len(tableau) == asked
        np.testing.assert_allclose(executor.run(tableau, x), y, rtol=1e-9, atol=1e-11)


def test_tableau_prints_slices_and_counts():
    process = jd.processes.edm()
    tableau = solvers.heun(process, grids.karras(process, 4))
    assert len(tableau) == 7
    assert len(tableau[:3]) == 3
    assert len(tableau[3:]) == 4
    assert tableau[:3].state.shape[0] == 4
    assert str(tableau).count("ask at") == 7
    with pytest.raises(TypeError, match="stride"):
        tableau[::2]
    with pytest.raises(TypeError, match="slices"):
        tableau[1]
    assert tableau.state.dtype == np.float64


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda p, t: solvers.ddim(p, t[::-1]), ValueError, "do not decrease"),
        (lambda p, t: solvers.ddim(p, t[:1]), ValueError, r"shape \(1,\)"),
        (lambda p, t: solvers.ddim(p, t, eta=2), ValueError, "eta = 2"),
        (lambda p, t: solvers.ddim(p, [80.0, 1.0, -5e-4]), ValueError, "80.0 to -0.0005.*EDM allows"),
        (
            lambda p, t: solvers.ddim(PROCESSES["flow"], [1.000009, 0.5, 0.1]),
            ValueError,
            "1.000009 to 0.1.*Flow allows",
        ),
        (lambda p, t: solvers.heun(p, t * 10), ValueError, "allows 80"),
        (lambda p, t: solvers.heun(p, t, coordinate="sigm"), ValueError, "'sigm'.*'sigma'"),
        (lambda p, t: solvers.dpm_solver_pp(p, t, order=4), ValueError, "order = 4"),
        (lambda p, t: solvers.dpm_solver_pp(p, t, variant="mid"), ValueError, "'mid'.*'midpoint'"),
        (lambda p, t: solvers.exponential(p, t, order=0), ValueError, "order = 0"),
        (lambda p, t: solvers.exponential(p, t, tau=-1.0), ValueError, "tau = -1"),
        (lambda p, t: solvers.exponential(p, t, prediction="x0"), ValueError, "'x0'.*'data', 'noise' and 'velocity'"),
        (lambda p, t: solvers.exponential(p, t, corrector_order=-1), ValueError, "corrector_order = -1"),
        (lambda p, t: solvers.deis(p, t, coordinate="rho"), ValueError, "'rho'.*'sigma'"),
        (lambda p, t: solvers.deis(p, t, order=2.0), ValueError, "order = 2.0"),
        (lambda p, t: solvers.ddpm(p, t, variance="learned"), ValueError, "'learned'.*'small' and 'large'"),
        (lambda p, t: solvers.uni_pc(p, t, variant="vary"), ValueError, "'vary'.*'bh1' and 'bh2'"),
        (lambda p, t: solvers.uni_pc(p, t, order=True), ValueError, "order = True"),
        (lambda p, t: solvers.sa_solver(p, t, tau=np.nan), ValueError, "tau = nan"),
        (lambda p, t: solvers.euler_maruyama(p, t, tau=-1), ValueError, "tau = -1"),
        (lambda p, t: solvers.euler_ancestral(p, t, eta=2), ValueError, "eta = 2"),
        (lambda p, t: solvers.pndm(p, t, warm_up="euler"), ValueError, "'euler'.*'runge_kutta' and 'heun'"),
        (lambda p, t: solvers.ddpm("edm", t), TypeError, "'edm'"),
    ],
)
def test_wrong_arguments(make, error, message):
    process = jd.processes.edm()
    with pytest.raises(error, match=message):
        make(process, grids.karras(process, 5))


def test_a_jax_grid_is_the_grid_it_holds():
    """Concrete JAX times are read back: the same rows, in float64, to no noise at all."""
    process = jd.processes.edm()
    times = grids.karras(process, 4)
    for make in (solvers.heun, solvers.ddim, functools.partial(solvers.dpm_solver_pp, order=3)):
        ours, theirs = make(process, times), make(process, jnp.asarray(times))
        assert theirs.state.dtype == np.float64
        np.testing.assert_allclose(theirs.state, ours.state, rtol=1e-5, atol=1e-5)
        jax.jit(lambda x, theirs=theirs: x + theirs.state.sum())(1.0)


def test_the_grid_is_copied():
    process = jd.processes.edm()
    times = grids.karras(process, 4)
    tableau = solvers.ddim(process, times)
    before = tableau.times.copy()
    times *= 0.5
    np.testing.assert_array_equal(tableau.times, before)


def test_derivatives_by_the_numbers_of_a_process_with_an_end_at_minus_infinity(x64):
    """A learned schedule and VE, on a grid that ends clean."""
    learned = jd.processes.learned(jax.random.key(0), hidden=4)
    for process in (learned, PROCESSES["ve"]):
        times = jnp.asarray(grids.karras(process, 4))
        for make in (solvers.ddim, functools.partial(solvers.dpm_solver_pp, order=2, tau=1.0)):

            @jax.jit
            def functional(process, times, make=make):
                tableau = make(process, times)
                return jnp.sum(jnp.sin(tableau.state)) + jnp.sum(jnp.cos(tableau.noise))

            gradient = jax.grad(functional)(process, times)
            for i, (g, leaf) in enumerate(zip(jax.tree.leaves(gradient), jax.tree.leaves(process), strict=True)):
                direction = np.ones(np.shape(leaf))

                def moved(h, i=i, direction=direction, process=process):
                    leaves, structure = jax.tree.flatten(process)
                    leaves[i] = jnp.asarray(leaves[i]) + h * direction
                    return jax.tree.unflatten(structure, leaves)

                numeric = (functional(moved(1e-5), times) - functional(moved(-1e-5), times)) / 2e-5
                np.testing.assert_allclose(np.sum(g), numeric, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("warm_up", ["runge_kutta", "heun"])
@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_pndm_of_traced_times_is_not_asked_without_noise(steps, warm_up):
    """Where times are traced it is not known that the last step ends clean."""
    process = PROCESSES["edm"]
    times = grids.karras(process, steps)
    tableau = jax.jit(functools.partial(solvers.pndm, process, warm_up=warm_up))(jnp.asarray(times))
    assert np.all(np.asarray(tableau.times) > 0)
    known = solvers.pndm(process, times, warm_up=warm_up)
    np.testing.assert_allclose(tableau.state, known.state, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["edm", "flow"])
@pytest.mark.parametrize(
    "solver",
    [
        "ddpm large", "ddim, eta 0.5", "dpm_solver_pp 3, tau 1", "exponential 2, velocity, tau 0.7", "uni_pc 2",
        "deis 3, time", "pndm", "reverse_diffusion",
    ],
)  # fmt: skip
def test_derivatives_by_the_grid_are_finite_at_singular_ends(name, solver, x64):
    """From no signal, to no noise; inside against central differences."""
    process, make = PROCESSES[name], EVERY[solver]
    if name != "edm" and solver.startswith(("deis", "lms", "pndm")):
        return  # refused: `test_coefficients_are_finite_on_every_process`
    times = _grid(process, 5)

    @jax.jit
    def functional(times):
        tableau = make(process, times)
        return jnp.sum(jnp.sin(tableau.state * np.arange(1, 1 + tableau.state.size).reshape(tableau.state.shape)))

    gradient = np.asarray(jax.grad(functional)(jnp.asarray(times)))
    assert np.isfinite(gradient).all()
    for i in range(1, 5):
        h = 1e-6 * (times[i - 1] - times[i + 1])
        bump = h * (np.arange(6) == i)
        numeric = (functional(times + bump) - functional(times - bump)) / (2 * h)
        np.testing.assert_allclose(gradient[i], numeric, rtol=1e-4, atol=1e-5)
