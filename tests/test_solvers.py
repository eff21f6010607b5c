"""Solvers: orders of convergence, exact marginals and exact special cases, in float64."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import MEANS, PROCESSES, STDS, WEIGHTS, mixture
from scipy import integrate, stats

import jaxdiff as jd
from jaxdiff import grids, solvers, trees
from jaxdiff.processes import log_snr

sample = jax.jit(jd.sample)


def _host_estimate(process, x, t):
    """E[x0 | x_t] and E[eps | x_t] of the shared mixture in plain NumPy: an independent implementation, x is [n, 2]."""
    alpha, sigma = process.alpha(t), process.sigma(t)
    v = alpha**2 * STDS**2 + sigma**2
    centred = x[:, None] - alpha * MEANS
    log_r = np.log(WEIGHTS) - np.log(v) - np.sum(centred**2, -1) / (2 * v)
    r = np.exp(log_r - log_r.max(1, keepdims=True))
    r /= r.sum(1, keepdims=True)
    x0 = np.einsum("nk,nkd->nd", r, MEANS + (alpha * STDS**2 / v)[:, None] * centred)
    return x0, (x - alpha * x0) / sigma


@functools.cache
def _reference(name, low, high):
    """x_T and the probability-flow ODE's end point from it, by scipy's DOP853 at 1e-12, in half log-SNR."""
    process = PROCESSES[name]
    times = grids.uniform_log_snr(process, 1, log_snr_min=low, log_snr_max=high)
    sigma = process.sigma(times[:1])
    x = np.random.default_rng(0).normal(size=(32, 2)) * np.sqrt(sigma**2 + process.alpha(times[:1]) ** 2)

    def rate(l, y):
        # d(x/alpha)/d(sigma/alpha) = eps, with sigma/alpha = e^{-l}.
        t = jd.processes.time_of_log_snr(process, np.float64(2 * l))
        return (-np.exp(-l) * _host_estimate(process, y.reshape(-1, 2) * process.alpha(t), t)[1]).ravel()

    y = (x / process.alpha(times[0])).ravel()
    solution = integrate.solve_ivp(rate, (low / 2, high / 2), y, method="DOP853", rtol=1e-11, atol=1e-12)
    return x, solution.y[:, -1].reshape(-1, 2) * process.alpha(times[1])


DETERMINISTIC = {
    "ddim": (solvers.ddim, 1),
    "euler": (solvers.euler, 1),
    "heun": (solvers.heun, 2),
    "heun, flow": (functools.partial(solvers.heun, coordinate="flow"), 2),
    "dpm_solver_pp 1": (functools.partial(solvers.dpm_solver_pp, order=1), 1),
    "dpm_solver_pp 2": (functools.partial(solvers.dpm_solver_pp, order=2), 2),
    "dpm_solver_pp 2 midpoint": (functools.partial(solvers.dpm_solver_pp, order=2, variant="midpoint"), 2),
    "dpm_solver_pp 3": (functools.partial(solvers.dpm_solver_pp, order=3), 3),
    "dpm_solver_pp 3 to the end": (functools.partial(solvers.dpm_solver_pp, order=3, lower_final=False), 3),
    "dpm_solver_pp 3 midpoint": (functools.partial(solvers.dpm_solver_pp, order=3, variant="midpoint"), 2),
}
# there.
RANGE = (-10.0, 7.0)


@pytest.mark.parametrize("solver", DETERMINISTIC)
@pytest.mark.parametrize("name", ["vp_cosine", "flow"])
def test_order_of_convergence(name, solver, x64):
    make, order = DETERMINISTIC[solver]
    process = PROCESSES[name]
    x, end = _reference(name, *RANGE)
    denoiser = mixture(process)
    errors = []
    for steps in (80, 160, 320):
        times = grids.uniform_log_snr(process, steps, log_snr_min=RANGE[0], log_snr_max=RANGE[1])
        got = sample(jax.random.key(0), denoiser, jnp.asarray(x), make(process, times))
        errors.append(np.sqrt(np.mean((np.asarray(got) - end) ** 2)))
    measured = np.log2(np.array(errors[:-1]) / np.array(errors[1:]))
    print(f"| {solver} | {' | '.join(f'{e:.2e}' for e in errors)} | {measured[-1]:.2f} |  {name}")
    assert measured[-1] >= order - 0.15
    if order < 3:
        assert measured[-1] <= order + 0.5


STOCHASTIC = {
    "ddpm": solvers.ddpm,
    "ddim 0.5": functools.partial(solvers.ddim, eta=0.5),
    "sde-dpm_solver_pp 2": functools.partial(solvers.dpm_solver_pp, order=2, tau=1.0),
    "exponential tau 0.6": functools.partial(solvers.exponential, order=2, tau=0.6),
    "heun with churn": functools.partial(solvers.heun, s_churn=20.0, s_noise=1.0),
}


def _projected_cdf(z, direction):
    return sum(w * stats.norm.cdf(z, m @ direction, s) for w, m, s in zip(WEIGHTS, MEANS, STDS, strict=True))


@pytest.mark.parametrize("solver", STOCHASTIC)
def test_stochastic_solvers_have_the_exact_marginal(solver):
    """Kolmogorov-Smirnov on projections of 10,000 samples of a mixture, whose projections are mixtures again."""
    process = jd.processes.edm(0.01, 40.0)
    tableau = STOCHASTIC[solver](process, grids.karras(process, 150))
    noise = jd.prior_sample(jax.random.key(1), process, (10_000, 2))
    got = np.asarray(sample(jax.random.key(2), mixture(process), noise, tableau))
    for angle in (0.0, 1.0, 2.2):
        direction = np.array([np.cos(angle), np.sin(angle)])
        # The last step to sigma = 0 returns the posterior mean at sigma = 0.01: data but for that much.
        p = stats.kstest(got @ direction, functools.partial(_projected_cdf, direction=direction)).pvalue
        assert p > 1e-3, (solver, angle, p)


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
    for name in ("state", "noise", "remember", "times"):
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
            tableau = solvers.exponential(process, times, order=order, lower_final=False)
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
    two = solvers.dpm_solver_pp(process, times, order=2, variant="midpoint", lower_final=False).state[i + 1, 0]
    r = h1 / h
    want = sigma[i + 1] / sigma[i] * x - alpha[i + 1] * np.expm1(-h) * ((1 + 1 / (2 * r)) * d0 - 1 / (2 * r) * d1)
    np.testing.assert_allclose(two @ [x, d0, d1], want, rtol=1e-12)
    three = solvers.dpm_solver_pp(process, times, order=3, variant="midpoint", lower_final=False).state[i + 1, 0]
    r0, r1 = h1 / h, h2 / h
    s0, s1 = (d0 - d1) / r0, (d1 - d2) / r1
    first, second = s0 + (s0 - s1) * r0 / (r0 + r1), (s0 - s1) / (r0 + r1)
    phi2 = np.expm1(-h) / h + 1
    want = sigma[i + 1] / sigma[i] * x - alpha[i + 1] * (np.expm1(-h) * d0 - phi2 * first + (phi2 / h - 0.5) * second)
    np.testing.assert_allclose(three @ [x, d0, d1, d2], want, rtol=1e-10)


def test_heun_with_churn_is_edm_algorithm_2(x64):
    """Written out as the paper prints it, with the same noise."""
    process = jd.processes.edm(0.02, 20.0)
    steps, s_churn, s_min, s_max, s_noise = 8, 30.0, 0.1, 15.0, 1.003
    times = grids.karras(process, steps)
    tableau = solvers.heun(process, times, s_churn=s_churn, s_min=s_min, s_max=s_max, s_noise=s_noise)
    assert len(tableau) == 2 * steps - 1
    denoiser = mixture(process)
    key = jax.random.key(3)
    x0 = jd.prior_sample(jax.random.key(4), process, (6, 2)).astype(jnp.float64)
    got = sample(key, denoiser, x0, tableau)

    def noise(row):  # the noise of row i, as the sampler draws it
        return np.asarray(trees.normal_like(jax.random.fold_in(key, row), x0))

    x = np.asarray(x0)
    for i in range(steps):
        t, t_next = times[i], times[i + 1]
        gamma = min(s_churn / steps, np.sqrt(2) - 1) if s_min <= t <= s_max else 0.0
        t_hat = t + gamma * t
        x = x + np.sqrt(t_hat**2 - t**2) * s_noise * noise(2 * i)
        d = (x - np.asarray(denoiser(jnp.asarray(x), t_hat).x0)) / t_hat
        x_next = x + (t_next - t_hat) * d
        if t_next:
            d_next = (x_next - np.asarray(denoiser(jnp.asarray(x_next), t_next).x0)) / t_next
            x_next = x + (t_next - t_hat) * (d + d_next) / 2
        x = x_next
    np.testing.assert_allclose(got, x, rtol=1e-10, atol=1e-11)


EVERY = {**{k: v[0] for k, v in DETERMINISTIC.items()}, **STOCHASTIC}


def _tableaux(process, steps):
    """Every solver on two grids: one that ends at t_min, one that ends without noise."""
    singular = process.alpha(np.float64(process.t_max)) == 0
    times = [grids.uniform_time(process, steps), np.append(grids.uniform_time(process, steps)[:-1], process.t_clean)]
    for solver, make in EVERY.items():
        if singular and solver in ("heun", "heun with churn"):
            with pytest.raises(ValueError, match="'flow'"):
                make(process, times[0])
        else:
            yield from ((solver, make(process, grid)) for grid in times)


@pytest.mark.parametrize("steps", [1, 2, 3, 50, 1000])
def test_coefficients_are_finite_on_every_process(process, steps):
    """From the first time, where alpha may be 0, to the last, where sigma is."""
    for solver, tableau in _tableaux(process, steps):
        for leaf in (tableau.state, tableau.noise):
            assert np.isfinite(leaf).all(), solver


@pytest.mark.parametrize("name", ["vp_discrete", "ve", "flow"])
def test_samples_are_finite_and_right_in_float32(name):
    process = PROCESSES[name]
    denoiser = jd.denoisers.gaussian(process, 0.5, 0.3)
    noise = jd.prior_sample(jax.random.key(1), process, (400, 1))
    seen = set()
    for solver, tableau in _tableaux(process, 40):
        shape = tuple(np.shape(leaf) for leaf in jax.tree.leaves(tableau))
        if shape in seen:
            continue
        seen.add(shape)
        got = np.asarray(sample(jax.random.key(0), denoiser, noise, tableau))
        assert np.isfinite(got).all(), solver
        assert abs(got.mean() - 0.5) < 0.15, (solver, got.mean())
    assert len(seen) > 5


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
        (lambda p, t: solvers.heun(p, t * 10), ValueError, "allows 80"),
        (lambda p, t: solvers.heun(p, t, s_churn=-1), ValueError, "s_churn = -1"),
        (lambda p, t: solvers.heun(p, t, coordinate="sigm"), ValueError, "'sigm'.*'sigma'"),
        (lambda p, t: solvers.dpm_solver_pp(p, t, order=4), ValueError, "order = 4"),
        (lambda p, t: solvers.dpm_solver_pp(p, t, variant="mid"), ValueError, "'mid'.*'midpoint'"),
        (lambda p, t: solvers.exponential(p, t, order=0), ValueError, "order = 0"),
        (lambda p, t: solvers.exponential(p, t, tau=-1.0), ValueError, "tau = -1"),
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


@pytest.mark.parametrize("name", ["edm", "flow", "vp_cosine"])
@pytest.mark.parametrize(
    "solver", ["ddpm", "ddim", "ddim 0.5", "dpm_solver_pp 2", "dpm_solver_pp 3", "exponential tau 0.6"]
)
def test_derivatives_by_the_grid_are_finite_at_singular_ends(name, solver, x64):
    """From no signal, to no noise; inside against central differences."""
    process, make = PROCESSES[name], {**EVERY, "ddim": solvers.ddim}[solver]
    times = _grid(process, 5)

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


@pytest.mark.parametrize("name", ["flow", "vp_cosine", "trigonometric"])
def test_churn_from_no_signal(name):
    process = PROCESSES[name]
    with np.errstate(all="raise", under="ignore"):
        tableau = solvers.heun(
            process, np.append(grids.uniform_time(process, 4)[:-1], process.t_clean), coordinate="flow", s_churn=2.0
        )
    assert np.isfinite(tableau.noise).all()
    assert np.isfinite(tableau.state).all()
    assert tableau.noise[0, 0, 0] == 0.0
    assert tableau.noise[2, 0, 0] > 0.0
