"""Solvers: exact special cases, coefficients at singular ends, samples in float32, derivatives, wrong arguments.

Orders of convergence are in `test_solvers_orders`, marginals of stochastic solvers in `test_solvers_marginals`, and
methods of several stages in `test_solvers_stages`.
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
from moments import of_gaussian
from scipy import integrate
from test_solvers_marginals import STOCHASTIC
from test_solvers_orders import MULTISTEP

import jaxdiff as jd
from jaxdiff import grids, solvers, trees
from jaxdiff.arithmetic import namespace
from jaxdiff.processes import log_snr

sample = jax.jit(jd.sample)
EVERY = {name: make for name, (make, _) in {**MULTISTEP, **STOCHASTIC}.items()}


@pytest.mark.parametrize("solver", ["ddpm", "sa_solver", "dpm_solver_pp 2, tau 1", "euler_maruyama"])
def test_stochastic_samples_have_the_exact_marginal(solver):
    """Kolmogorov-Smirnov tests of projections of 10,000 samples of a mixture."""
    process = jd.processes.edm(0.01, 40.0)
    tableau = EVERY[solver](process, grids.karras(process, 150))
    noise = jd.prior_sample(jax.random.key(1), process, (10_000, 2))
    got = np.asarray(sample(jax.random.key(2), mixture(process), noise, tableau))
    # The last step, to no noise, returns the posterior mean at sigma = 0.01, which differs from data by about 0.01.
    assert least_probable_projection(got) > 1e-3, solver


def test_ddpm_of_a_gaussian_has_the_variance_of_its_own_recursion():
    """With few steps the marginal is not yet that of the data. The recursion of Ho et al. 2020 gives it exactly."""
    process, std, mean = jd.processes.vp_discrete(), 0.7, 1.5
    times = grids.discrete(process, 10)
    m, v = process.alpha(times[0]) * mean, process.alpha(times[0]) ** 2 * std**2 + process.sigma(times[0]) ** 2
    for t, s in itertools.pairwise(times):
        at, st, a_s, ss = process.alpha(t), process.sigma(t), process.alpha(s), process.sigma(s)
        # q(x_s | x_t, x0) of equations 6 and 7, with beta = 1 - (alpha_t/alpha_s)^2.
        beta = 1 - (at / a_s) ** 2
        on_x0, on_x = a_s * beta / st**2, (at / a_s) * ss**2 / st**2
        gain = at * std**2 / (at**2 * std**2 + st**2)
        slope = on_x + on_x0 * gain
        m, v = slope * m + on_x0 * (mean - gain * at * mean), slope**2 * v + beta * ss**2 / st**2
    np.testing.assert_allclose(of_gaussian(solvers.ddpm(process, times), mean, std), (m, v), rtol=1e-10)


def test_ddim_at_eta_one_is_ddpm_is_the_first_order_sde(process):
    """The posterior, the family of DDIM, and the exponential integrator with tau = 1 give one sampler."""
    times = _grid(process, 12)
    a, b = solvers.ddpm(process, times), solvers.exponential(process, times, order=1, tau=1.0)
    for name in ("state", "noise", "history_target", "times"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=1e-9, atol=1e-12)
    c, d = solvers.ddim(process, times), solvers.dpm_solver_pp(process, times, order=1)
    np.testing.assert_allclose(c.state, d.state, rtol=1e-9, atol=1e-12)


def _grid(process, steps):
    """Karras' grid where the process allows it, else a grid from pure noise."""
    if process.alpha(np.float64(process.t_max)) > 0 and process.sigma(np.float64(process.t_min)) > 0:
        return grids.karras(process, steps)
    return grids.uniform_time(process, steps)


def test_polynomials_are_integrated_exactly():
    """If x0 is a polynomial of degree q - 1 in l, then a method of order q is exact on any step, tiny or large."""
    process = jd.processes.edm(1e-3, 1e3)
    for order in (2, 3, 4):
        coefficients = np.random.default_rng(order).normal(size=order)
        for steps in (5, 400):
            times = grids.uniform_log_snr(process, steps)
            tableau = solvers.exponential(process, times, order=order, lower_order=False)
            l = log_snr(process, times) / 2
            # Begin with a full history of exact estimates.
            x = 1.7
            history = [np.polyval(coefficients, l[i]) for i in range(order - 1)]
            for i in range(order - 1, steps):
                history.append(np.polyval(coefficients, l[i]))
                row = tableau.state[i + 1, 0]
                x_new = row[0] * x + sum(row[1 + j] * history[-1 - j] for j in range(order))
                # The exact solution, by adaptive quadrature.
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
    """Whether a solver works with x/alpha, which is infinite where no signal is left."""
    return any(name in solver for name in ("noise", "deis", "lms", "pndm", "dpm_2"))


def _tableaux(process, steps):
    """Every solver on a grid that ends at t_min and on a grid that ends without noise."""
    singular = process.alpha(np.float64(process.t_max)) == 0
    uniform = grids.uniform_time(process, steps)
    for times in (uniform, np.append(uniform[:-1], process.t_clean)):
        for solver, make in EVERY.items():
            # Noise prediction and plain discretisations of the SDE cannot start without signal. Euler-Maruyama cannot
            # end at minus infinity. Each raises an error.
            plain = "reverse_diffusion" in solver and singular
            plain |= "euler_maruyama" in solver and (singular or np.isinf(times[-1]))
            if plain or (singular and _moves_x_over_alpha(solver)):
                with pytest.raises(ValueError, match=r"alpha > 0|finite times"):
                    make(process, times)
            else:
                yield solver, times, make(process, times)


@pytest.mark.parametrize("steps", [1, 2, 3, 1000])
def test_coefficients_are_finite_on_every_process(process, steps):
    """Even where alpha is 0 at the first time or sigma at the last. NumPy gives no warning either."""
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


GRIDS = {
    "edm, karras": grids.karras,
    "edm, to t_min": grids.uniform_log_snr,
    "vp_linear": grids.uniform_log_snr,
    "flow, to the end": grids.uniform_time,
}


@pytest.mark.parametrize("case", GRIDS)
def test_more_steps_are_no_worse_in_float32(case):
    """With 10, 100 and 1,000 steps in single precision and the exact denoiser, against the solution of the ODE.

    One step must be finite only: its answer, close to the mean of the data, can be better than that of ten.
    """
    process = PROCESSES[case.split(",")[0]]
    x, exact = _ends(case)
    errors = {}
    for steps in (1, 10, 100, 1000):
        together, alone = {}, {}  # all but PNDM evaluate the denoiser once per step, at the same times
        for solver, (make, _) in MULTISTEP.items():
            refused = solver.startswith(("reverse_diffusion", "euler_maruyama")) or _moves_x_over_alpha(solver)
            if case == "flow, to the end" and refused:
                continue  # `test_coefficients_are_finite_on_every_process` holds the refusal
            tableau = _float32(make(process, GRIDS[case](process, steps)))
            (together if len(tableau) == steps else alone)[solver] = tableau
        start = x.astype(np.float32)
        samples = executor.run_together(list(together.values()), start, denoiser=_estimate_in_float32)
        made = dict(zip(together, samples, strict=True))
        made |= {name: executor.run(t, start, denoiser=_estimate_in_float32) for name, t in alone.items()}
        for solver, got in made.items():
            assert got.dtype == np.float32
            assert np.isfinite(got).all()
            errors.setdefault(solver, []).append(np.sqrt(np.mean((got - exact) ** 2)))
    assert len(errors) > 15
    for solver, found in errors.items():
        # Rounding in 1,000 sums leaves about 1e-4.
        assert found[2] <= max(found[1], 1e-4), (solver, found)
        assert found[3] <= max(found[2], 1e-4), (solver, found)


@functools.cache
def _ends(case):
    process = PROCESSES[case.split(",")[0]]
    start, stop = (process.sigma(t) / max(process.alpha(t), 1e-6) for t in (process.t_max, process.t_min))
    y = np.random.default_rng(2).normal(size=(16, 2)) * start
    end = executor.ode_end(y, start, stop)
    return y * max(process.alpha(process.t_max), 1e-6), end * process.alpha(process.t_min)


@pytest.mark.parametrize("solver", ["ddpm", "sa_solver"])
def test_stochastic_samples_from_no_signal_to_no_noise_are_right_in_float32(solver):
    """Through the compiled sampler. The parity tests hold it for deterministic solvers."""
    process = PROCESSES["flow"]
    tableau = EVERY[solver](process, grids.uniform_time(process, 40))
    noise = jd.prior_sample(jax.random.key(1), process, (400, 1))
    got = np.asarray(sample(jax.random.key(0), jd.denoisers.gaussian(process, 0.5, 0.3), noise, tableau))
    assert np.isfinite(got).all()
    assert abs(got.mean() - 0.5) < 5 * 0.3 / np.sqrt(400)  # five standard errors


@pytest.mark.parametrize("solver", ["pndm", "sa_solver", "uni_pc 3", "dpm_solver_pp 3, tau 1", "ddpm large"])
def test_the_sampler_does_what_the_tableau_says(solver, x64):
    """The compiled scan equals a loop over the rows in NumPy with the noise that the scan draws."""
    process = PROCESSES["vp_linear"]
    tableau = EVERY[solver](process, grids.uniform_log_snr(process, 7))
    key, x = jax.random.key(3), jax.random.normal(jax.random.key(4), (5, 2))
    got = sample(key, mixture(process), x, tableau)
    noisy = [i for i in range(len(tableau) + 1) if np.any(tableau.noise[i])]
    draws = [np.asarray(trees.normal_like(jax.random.fold_in(key, i), x)) for i in noisy]
    np.testing.assert_allclose(got, executor.run(tableau, np.asarray(x), draws), rtol=1e-10, atol=1e-11)


def test_members_of_the_family():
    """Pairs of solvers with equal tableaux."""
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
    a = solvers.sa_solver(process, times, predictor_order=2, corrector_order=3, tau=0.0, variable="log_snr")
    same(a.state, exponential(order=2, corrector_order=3).state)
    # With three estimates or more, UniPC's predictor and corrector are exact.
    a, b = (f(process, times, order=3, lower_order=False) for f in (solvers.uni_pc, _exact_uni_pc))
    same(a.state[5:], b.state[5:])
    assert not np.allclose(a.state[2], b.state[2])
    # In first order, all predictions and all coordinates give the step of DDIM.
    x = np.random.default_rng(0).normal(size=(4, 2))
    ddim = executor.run(solvers.ddim(process, times), x)
    for prediction in ("data", "noise", "velocity"):
        same(executor.run(exponential(order=1, prediction=prediction), x), ddim)
    for coordinate in ("log_snr", "sigma", "time"):
        same(executor.run(solvers.deis(process, times, order=1, coordinate=coordinate), x), ddim)


def _exact_uni_pc(process, times, order, lower_order):
    return solvers.exponential(process, times, order=order, corrector_order=order + 1, lower_order=lower_order)


def test_uni_pc_as_published():
    """Zhao et al. 2023, algorithms 1 and 2 for order 2 in data prediction, with rho_c from `R rho = b`."""
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
    """Liu et al. 2022, algorithm 2, and PLMS of latent diffusion, written as a loop, for several numbers of steps."""
    process = PROCESSES["vp_linear"]
    x = np.random.default_rng(0).normal(size=(4, 2))
    weights = {1: [1], 2: [1.5, -0.5], 3: [23 / 12, -16 / 12, 5 / 12], 4: [55 / 24, -59 / 24, 37 / 24, -9 / 24]}

    def eps(y, t):
        nonlocal evaluations
        evaluations += 1
        return executor.estimate(process, y, t)[1]

    def phi(y, e, t, s):
        keep = process.alpha(s) / process.alpha(t)
        return keep * y + (process.sigma(s) - keep * process.sigma(t)) * e

    for steps, end in itertools.product((1, 2, 3, 4, 9), (1e-3, 0.0)):
        times = np.append(grids.uniform_time(process, steps)[:-1], end)
        y, known, evaluations = x, [], 0
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
        assert len(tableau) == evaluations
        np.testing.assert_allclose(executor.run(tableau, x), y, rtol=1e-9, atol=1e-11)


def test_tableaux_compare_by_value():
    process = PROCESSES["vp_linear"]
    tableau, twin = (solvers.heun(process, 5) for _ in range(2))
    assert tableau == twin
    assert hash(tableau) == hash(twin)
    assert tableau != solvers.heun(jd.processes.vp_linear(beta_max=19.0), 5)
    assert tableau != solvers.heun(process, 6)


def test_tableau_prints_slices_and_counts():
    process = jd.processes.edm()
    tableau = solvers.heun(process, grids.karras(process, 4))
    assert len(tableau) == 7
    assert len(tableau[:3]) == 3
    assert len(tableau[3:]) == 4
    assert tableau[:3].state.shape[0] == 4
    assert str(tableau).count("evaluate at") == 7
    with pytest.raises(TypeError, match="stride"):
        tableau[::2]
    with pytest.raises(TypeError, match="slices"):
        tableau[1]
    assert tableau.state.dtype == np.float64


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda p, t: solvers.ddim(p, t[::-1]),
            ValueError,
            r"times = \[ ?0.*one axis, at least two values, strictly decreasing",
        ),
        (lambda p, t: solvers.ddim(p, t[:1]), ValueError, "at least two values"),
        (lambda p, t: solvers.ddim(p, t, eta=2), ValueError, "eta = 2"),
        (lambda p, t: solvers.ddim(p, [80.0, 1.0, -5e-4]), ValueError, "5.e-04.*times of EDM, from 80.0 down to 0.0"),
        (
            lambda p, t: solvers.ddim(PROCESSES["flow"], [1.000009, 0.5, 0.1]),
            ValueError,
            "1.000009.*times of Flow, from 1.0",
        ),
        (lambda p, t: solvers.heun(p, t * 10), ValueError, "from 80.0 down"),
        (lambda p, t: solvers.dpm_solver_pp(p, t, order=4), ValueError, "order = 4"),
        (lambda p, t: solvers.dpm_solver_pp(p, t, variant="mid"), ValueError, "'mid'.*'midpoint'"),
        (lambda p, t: solvers.exponential(p, t, order=0), ValueError, "order = 0"),
        (lambda p, t: solvers.exponential(p, t, tau=-1.0), ValueError, "tau = -1"),
        (lambda p, t: solvers.exponential(p, t, prediction="x0"), ValueError, "'x0'.*'data', 'noise', 'velocity'"),
        (lambda p, t: solvers.exponential(p, t, corrector_order=-1), ValueError, "corrector_order = -1"),
        (lambda p, t: solvers.deis(p, t, coordinate="rho"), ValueError, "'rho'.*'sigma'"),
        (lambda p, t: solvers.deis(p, t, order=2.0), ValueError, "order = 2.0"),
        (lambda p, t: solvers.ddpm(p, t, variance="learned"), ValueError, "'learned'.*'small', 'large'"),
        (lambda p, t: solvers.uni_pc(p, t, variant="vary"), ValueError, "'vary'.*'bh1', 'bh2'"),
        (lambda p, t: solvers.uni_pc(p, t, order=True), ValueError, "order = True"),
        (lambda p, t: solvers.sa_solver(p, t, tau=np.nan), ValueError, "tau = nan"),
        (lambda p, t: solvers.euler_maruyama(p, t, tau=-1), ValueError, "tau = -1"),
        (lambda p, t: solvers.euler_ancestral(p, t, eta=2), ValueError, "eta = 2"),
        (lambda p, t: solvers.pndm(p, t, warm_up="euler"), ValueError, "'euler'.*'runge_kutta', 'heun'"),
        (lambda p, t: solvers.ddpm("edm", t), TypeError, "'edm'"),
    ],
)
def test_wrong_arguments(make, error, message):
    process = jd.processes.edm()
    with pytest.raises(error, match=message):
        make(process, grids.karras(process, 5))


def test_a_jax_grid_is_the_grid_it_holds():
    """Concrete JAX times give the same tableau as NumPy times, in float64."""
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


@pytest.mark.parametrize("name", ["learned", "ve"])
def test_derivatives_by_the_numbers_of_a_process_with_an_end_at_minus_infinity(name, x64):
    """On a grid that ends without noise, against central differences in NumPy."""
    process = jd.processes.learned(jax.random.key(0), hidden=4) if name == "learned" else PROCESSES[name]
    times = grids.karras(process, 4, sigma_max=10.0)  # below t_max, which is one of the numbers

    def functional(process, times):
        first, second = solvers.ddim(process, times), solvers.dpm_solver_pp(process, times, order=2, tau=1.0)
        xp = namespace(times)
        return xp.stack([xp.sum(xp.sin(t.state)) + xp.sum(xp.cos(t.noise)) for t in (first, second)])

    jacobian = jax.jit(jax.jacrev(functional))(process, jnp.asarray(times))
    leaves, structure = jax.tree.flatten(process)
    for i, (found, leaf) in enumerate(zip(jax.tree.leaves(jacobian), leaves, strict=True)):

        def moved(h, i=i, leaf=leaf):
            return jax.tree.unflatten(structure, [*leaves[:i], np.asarray(leaf, np.float64) + h, *leaves[i + 1 :]])

        numeric = (functional(moved(1e-5), times) - functional(moved(-1e-5), times)) / 2e-5
        np.testing.assert_allclose(np.asarray(found).reshape(2, -1).sum(1), numeric, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("steps", "warm_up"), [(1, "runge_kutta"), (2, "runge_kutta"), (4, "runge_kutta"), (1, "heun"), (2, "heun")]
)
def test_pndm_of_traced_times_is_not_evaluated_without_noise(steps, warm_up):
    """A traced grid may end without noise, so the warm-up leaves out the last step."""
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
    """On a grid from no signal or to no noise. Its inner derivatives are those of central differences in NumPy."""
    process, make = PROCESSES[name], EVERY[solver]
    if name != "edm" and _moves_x_over_alpha(solver):
        return  # `test_coefficients_are_finite_on_every_process` holds the refusal
    times = _grid(process, 5)

    def functional(times):
        xp, state = namespace(times), make(process, times).state
        return xp.sum(xp.sin(state * np.arange(1, 1 + state.size).reshape(state.shape)))

    gradient = np.asarray(jax.jit(jax.grad(functional))(jnp.asarray(times)))
    assert np.isfinite(gradient).all()
    if name != "edm" and solver == "reverse_diffusion":
        return  # allowed with traced times only, of which nothing is known
    for i in range(1, 5):
        h = 1e-6 * (times[i - 1] - times[i + 1])
        bump = h * (np.arange(6) == i)
        numeric = (functional(times + bump) - functional(times - bump)) / (2 * h)
        np.testing.assert_allclose(gradient[i], numeric, rtol=1e-4, atol=1e-5)
