"""Variational bounds against closed forms: every term for Gaussian data, entropies of mixtures and of discrete data.

A mean over random draws must lie within 5 standard errors, which are computed beside it. The seeds are fixed.
"""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import MEANS, PROCESSES, STDS, WEIGHTS, mixture
from scipy import integrate, stats

import jaxdiff as jd
from jaxdiff import grids
from jaxdiff.likelihood import bounds
from jaxdiff.likelihood.bounds_continuous import continuous_time
from jaxdiff.likelihood.bounds_discrete import discrete_time

KEY = jax.random.key(0)
N = 4096  # draws; one shape for most tests, so that compiled programs are shared
MEAN, STD = 0.3, 0.5
continuous = jax.jit(continuous_time, static_argnames=("levels", "samples"))
gaussian_decoder = jax.jit(bounds.gaussian_decoder, static_argnums=3)
log_posterior = jax.jit(bounds._log_posterior, static_argnums=4)
discrete = jax.jit(discrete_time, static_argnames=("variance", "levels", "samples"))


def _noisy(process):
    """The process with some noise left at its end."""
    return dataclasses.replace(process, t_min=max(process.t_min, 0.01)) if process.t_clean == 0 else process


def _gaussian(process):
    return jd.denoisers.gaussian(process, MEAN, STD)


def _ratios(process, t):
    """Alpha and sigma at t, in float64."""
    t = np.asarray(t, np.float64)
    return process.alpha(t), process.sigma(t)


def _close(values, exact, slack=0.0):
    values = np.asarray(values, np.float64)
    standard_error = values.std() / np.sqrt(len(values))
    assert abs(values.mean() - exact) < 5 * standard_error + slack, (values.mean(), exact, standard_error)


# ------------------------------------------------------------------------------- continuous time


@pytest.mark.parametrize("name", ["vp_linear", "edm", "flow", "vp_discrete"])
def test_every_term_of_a_gaussian(name):
    """At one x, against the integral over log-SNR of the Gaussian's squared error, by quadrature."""
    process = _noisy(PROCESSES[name])
    x = 1.1
    got = continuous(KEY, _gaussian(process), jnp.full((N, 1), x))
    np.testing.assert_allclose(got.nats, got.prior + got.reconstruction + got.diffusion, rtol=1e-5, atol=1e-5)
    (a, s), (a0, s0) = _ratios(process, process.t_max), _ratios(process, process.t_min)
    # KL(N(a x, s^2) || N(0, s^2)) and E[-log N(x; z/a, (s/a)^2)].
    np.testing.assert_allclose(got.prior, (a * x) ** 2 / (2 * s**2), rtol=1e-5)
    np.testing.assert_allclose(got.reconstruction, np.log(2 * np.pi * (s0 / a0) ** 2) / 2 + 0.5, rtol=1e-5)

    def integrand(l):  # over the log-SNR
        snr = np.exp(l)
        v = snr * STD**2 + 1  # of x_t/sigma
        return ((snr * STD**2 / v) ** 2 + snr * (x - MEAN) ** 2 / v**2) / 2

    with np.errstate(divide="ignore"):
        low = max(2 * np.log(a / s), -60.0)
    exact = integrate.quad(integrand, low, 2 * np.log(a0 / s0), epsabs=1e-10, limit=200)[0]
    _close(got.diffusion, exact)


def test_the_strata_cancel_the_noise_of_times():
    """With one key, the mean over a batch has less error than with one key per example, where times are independent."""
    process = PROCESSES["vp_linear"]
    x = jnp.full((16, 64), MEAN)  # with so many coordinates, nearly all noise is that of the times

    @jax.jit
    @jax.vmap
    def run(key):
        keys = (key, jax.random.split(key, 16))
        return [jnp.mean(continuous_time(k, _gaussian(process), x).diffusion) for k in keys]

    one, each = (np.asarray(means, np.float64) for means in run(jax.random.split(KEY, 400)))
    assert one.var() < 0.3 * each.var()
    assert abs(one.mean() - each.mean()) < 5 * np.sqrt((one.var() + each.var()) / 400)


def test_samples_are_averaged():
    process = PROCESSES["vp_linear"]
    denoiser, x = _gaussian(process), jnp.full((N, 1), 1.1)
    one, four = (np.asarray(continuous(KEY, denoiser, x, samples=k).diffusion) for k in (1, 4))
    # Four times in strata are at least as good as four independent times.
    assert four.var() < one.var() / 3.5
    assert abs(one.mean() - four.mean()) < 5 * np.sqrt(one.var() / N)


def _log_density(x, std=0.0):
    centred = x[:, None] - MEANS
    v = STDS**2 + std**2
    return np.log(np.sum(WEIGHTS / (2 * np.pi * v) * np.exp(-np.sum(centred**2, -1) / (2 * v)), -1))


@pytest.mark.parametrize("name", ["vp_linear", "flow"])
def test_bounds_the_mixture_and_nearly_touches(name):
    """`E[bound] - E[-log p]` is the divergence of the prior plus the loss of the decoder: at least 0, and small."""
    process = _noisy(PROCESSES[name])
    rng = np.random.default_rng(0)
    k = rng.choice(3, N, p=WEIGHTS)
    x = MEANS[k] + STDS[k, None] * rng.normal(size=(N, 2))
    bound = np.asarray(continuous(KEY, mixture(process), jnp.asarray(x, jnp.float32)).nats)
    gap = bound + _log_density(x)
    assert gap.mean() > -5 * gap.std() / np.sqrt(N)
    assert gap.mean() < 0.01 + 5 * gap.std() / np.sqrt(N)


def test_bound_of_a_wrong_denoiser_is_its_models():
    """The model of another Gaussian's denoiser is this other Gaussian: the mean bound is the cross-entropy with it."""
    process = PROCESSES["vp_linear"]
    x = jnp.asarray(MEAN + STD * np.random.default_rng(1).normal(size=(N, 1)), jnp.float32)
    for std in (STD, 0.3, 1.0):
        nats = continuous(KEY, jd.denoisers.gaussian(process, MEAN, std), x, samples=4).nats
        _close(nats, np.log(2 * np.pi * std**2) / 2 + STD**2 / (2 * std**2), slack=0.005)


PMF = np.array([0.1, 0.4, 0.3, 0.2])


def _discrete_data(n, d=2):
    rng = np.random.default_rng(2)
    return jnp.asarray(rng.choice(np.linspace(-1, 1, 4), (n, d), p=PMF), jnp.float32)


def _points(process, d):
    """The exact denoiser of d independent coordinates on four levels: all 4^d points."""
    grid = np.stack(np.meshgrid(*[np.arange(4)] * d, indexing="ij"), -1).reshape(-1, d)
    return jd.denoisers.gaussian_mixture(
        process, np.prod(PMF[grid], -1), np.linspace(-1, 1, 4)[grid], np.zeros(len(grid))
    )


@pytest.mark.parametrize("name", ["vp_linear", "edm"])
def test_bound_of_discrete_data_is_their_entropy(name):
    process = PROCESSES[name]
    got = continuous(KEY, _points(process, 2), _discrete_data(N), levels=4)
    _close(got.nats, -2 * np.sum(PMF * np.log(PMF)), slack=2e-3)
    assert np.all(np.asarray(got.reconstruction) >= 0)


# --------------------------------------------------------------------------------- discrete time


def _step_terms(process, times, x, variance):
    """Every KL of the chain for a Gaussian and its exact denoiser, by the textbook KL of two Gaussians."""
    terms = []
    for t, s in itertools.pairwise(times):
        (at, st), (a, ss) = _ratios(process, t), _ratios(process, s)
        if ss == 0:
            continue
        step = st**2 - (at / a) ** 2 * ss**2
        small = step * ss**2 / st**2
        v = {"small": small, "large": step}[variance]
        total = at**2 * STD**2 + st**2
        # x0 - x0_hat = (x - m) st^2/total - at STD^2 st/total eps, and q's mean minus p's is a multiple of it.
        square = ((x - MEAN) * st**2 / total) ** 2 + (at * STD**2 * st / total) ** 2
        terms.append((np.log(v / small) + small / v - 1 + (a * step / st**2) ** 2 * square / v) / 2)
    return np.array(terms)


@pytest.mark.parametrize(
    ("name", "end", "variance"),
    [
        ("vp_discrete", "clean", "small"),
        ("flow", "clean", "large"),
        ("ve", "noise", "large"),
    ],
)
def test_every_term_of_the_chain(name, end, variance):
    process = PROCESSES[name]
    times = grids.uniform_time(process, 8)
    if end == "clean":
        times = np.append(np.linspace(process.t_max, process.t_min, 9)[:8], process.t_clean)
    x, clean = 1.1, end == "clean"
    got = discrete(KEY, _gaussian(process), jnp.full((N, 1), x), times, variance=variance)
    np.testing.assert_allclose(got.nats, got.prior + got.reconstruction + got.diffusion, rtol=1e-5, atol=1e-5)
    a, s = _ratios(process, times[0])
    np.testing.assert_allclose(got.prior, (a * x) ** 2 / (2 * s**2), rtol=1e-5)
    _close(got.diffusion, _step_terms(process, times, x, variance).sum())
    if clean:
        # The decoder's variance is that of the posterior one step earlier, for both choices.
        (before_a, before_s), (a, s) = _ratios(process, times[-3]), _ratios(process, times[-2])
        v = (before_s**2 - (before_a / a) ** 2 * s**2) * s**2 / before_s**2
        total = a**2 * STD**2 + s**2
        square = ((x - MEAN) * s**2 / total) ** 2 + (a * STD**2 * s / total) ** 2
        _close(got.reconstruction, (np.log(2 * np.pi * v) + square / v) / 2)
    else:
        a, s = _ratios(process, times[-1])
        np.testing.assert_allclose(got.reconstruction, np.log(2 * np.pi * np.e * (s / a) ** 2) / 2, rtol=1e-5)


@pytest.mark.parametrize("key", [KEY, jax.random.split(KEY, N)], ids=["one key", "keys"])
def test_drawn_steps_stand_for_all(key):
    process = PROCESSES["vp_linear"]
    times = grids.uniform_log_snr(process, 12)
    got = discrete(key, _gaussian(process), jnp.full((N, 1), 1.1), times, samples=2)
    _close(got.diffusion, _step_terms(process, times, 1.1, "small").sum())


def test_more_steps_are_better_down_to_continuous_time():
    """VDM, appendix F: the bound falls as steps are halved, and its limit is the bound in continuous time."""
    process = PROCESSES["vp_linear"]
    denoiser, x = _gaussian(process), jnp.full((N, 1), 1.1)
    got = [discrete(KEY, denoiser, x, grids.uniform_log_snr(process, n)) for n in (4, 64)]
    limit = continuous(KEY, denoiser, x)
    means = [np.asarray(g.nats).mean() for g in (*got, limit)]
    assert np.all(np.diff(means) < 0)
    assert means[1] - means[2] < 0.2 * (means[0] - means[2])
    np.testing.assert_allclose(got[0].prior, limit.prior, rtol=1e-5)
    np.testing.assert_allclose(got[0].reconstruction, limit.reconstruction, rtol=1e-5)


def test_ddpm_on_discrete_data_bounds_their_entropy():
    """With a decoder of levels at a clean end, the bound is never below the entropy, and near it with many steps."""
    process = PROCESSES["vp_linear"]
    denoiser, x = _points(process, 2), _discrete_data(N)
    entropy, gaps = -2 * np.sum(PMF * np.log(PMF)), []
    for steps in (30, 300):
        times = np.append(grids.uniform_log_snr(process, steps), process.t_clean)
        gap = np.asarray(discrete(KEY, denoiser, x, times, levels=4, samples=8).nats) - entropy
        assert gap.mean() > -5 * gap.std() / np.sqrt(N)
        gaps.append((gap.mean(), gap.std() / np.sqrt(N)))
    assert gaps[1][0] < 0.1 + 5 * gaps[1][1]
    assert gaps[1][0] < gaps[0][0]


class Fixed:
    """A denoiser with a variance: the estimate of the Gaussian, and one fraction for all coordinates."""

    def __init__(self, process, fraction):
        self.process, self.fraction, self.exact = process, fraction, _gaussian(process)

    def __call__(self, x, t):
        return self.exact(x, t)

    def with_fraction(self, x, t):
        return self.exact(x, t), jnp.full_like(x, self.fraction)


@jax.jit
def _with_fraction(fraction, x, times):
    return discrete_time(KEY, Fixed(PROCESSES["vp_linear"], fraction), x, times, variance="learned")


def test_learned_variance_has_small_and_large_as_its_ends():
    process = PROCESSES["vp_linear"]
    times = np.append(grids.uniform_time(process, 8)[:-1], 0.0)
    x = jnp.full((64, 2), 0.4)
    for fraction, variance in ((0.0, "small"), (1.0, "large")):
        learned = _with_fraction(fraction, x, times)
        fixed = discrete(KEY, _gaussian(process), x, times, variance=variance)
        np.testing.assert_allclose(learned.diffusion, fixed.diffusion, rtol=2e-5)
        if not fraction:
            np.testing.assert_allclose(learned.reconstruction, fixed.reconstruction, rtol=2e-5)


@pytest.mark.parametrize("fraction", [0.0, 0.3, 1.0])
def test_divergence_is_that_of_two_gaussians(fraction, x64):
    """Two steps, against the KL of each by numerical integration of the two densities."""
    process = PROCESSES["vp_linear"]
    times, x, n = np.array([0.9, 0.5, 0.3]), 0.7, 40_000
    got = _with_fraction(fraction, jnp.full((n, 1), x), times)
    exact = np.zeros(2)
    for i in range(2):
        (at, st), (a, ss) = _ratios(process, times[i]), _ratios(process, times[i + 1])
        step = st**2 - (at / a) ** 2 * ss**2
        small, on_x0 = step * ss**2 / st**2, a * step / st**2
        v = step**fraction * small ** (1 - fraction)
        # Over eps by Gauss-Hermite; over x_s by the trapezoidal rule, which is exact to rounding for Gaussian tails.
        nodes, weights = np.polynomial.hermite_e.hermegauss(20)
        for eps, weight in zip(nodes, weights / np.sqrt(2 * np.pi), strict=True):
            noisy = at * x + st * eps
            x0 = MEAN + at * STD**2 / (at**2 * STD**2 + st**2) * (noisy - at * MEAN)
            common = at / a * ss**2 / st**2 * noisy
            q, p = stats.norm(common + on_x0 * x, np.sqrt(small)), stats.norm(common + on_x0 * x0, np.sqrt(v))
            y = q.mean() + np.sqrt(small) * np.linspace(-9, 9, 400)
            exact[i] += weight * np.trapezoid(q.pdf(y) * (q.logpdf(y) - p.logpdf(y)), y)
    _close(got.diffusion, exact.sum(), slack=1e-6)


# -------------------------------------------------------------------------------------- decoders


@pytest.mark.parametrize("deviation", [1e-3, 0.01, 0.3, 3.0])
@pytest.mark.parametrize("mean", [-1.2, 0.1, 0.9999])
def test_discretised_gaussian_sums_to_one(mean, deviation):
    levels = np.linspace(-1, 1, 256)
    got = gaussian_decoder(jnp.asarray(levels, jnp.float32), mean, np.log(deviation**2), 256)
    np.testing.assert_allclose(np.exp(np.asarray(got, np.float64)).sum(), 1.0, rtol=1e-4)
    edges = np.concatenate([[-np.inf], (levels[1:] + levels[:-1]) / 2, [np.inf]])
    mass = np.diff(stats.norm.cdf(edges, mean, deviation))
    known = mass > 1e-12  # farther out the difference of two cdfs has no digits
    np.testing.assert_allclose(got[known], np.log(mass[known]), rtol=2e-3, atol=2e-3)
    assert np.isfinite(got).all()


def test_discretised_gaussian_keeps_its_tails(x64):
    """Forty standard deviations out the probability is 1e-350, which a floor of 1e-12 would hide."""
    got = gaussian_decoder(jnp.asarray(0.0), -0.4, np.log(0.01**2), 256)
    z = (0.4 - 1 / 255) / 0.01
    np.testing.assert_allclose(
        got, stats.norm.logsf(z) + np.log1p(-np.exp(stats.norm.logsf(z + 0.02 / 2.55) - stats.norm.logsf(z))), rtol=1e-2
    )
    assert got < -700


@pytest.mark.parametrize("sigma", [0.002, 0.05, 5.0])
def test_posterior_over_levels_sums_to_one(sigma):
    levels, alpha = np.linspace(-1, 1, 256), 0.8
    for noisy in (-1.0, 0.111, 0.9):
        got = log_posterior(jnp.asarray(levels, jnp.float32), jnp.full(256, noisy), alpha, sigma, 256)
        exponents = -((noisy - alpha * levels) ** 2) / (2 * sigma**2)
        exact = exponents - np.logaddexp.reduce(exponents)
        near = exact > -20
        np.testing.assert_allclose(np.exp(np.asarray(got, np.float64)).sum(), 1.0, rtol=1e-4)
        np.testing.assert_allclose(got[near], exact[near], atol=4e-3)


# --------------------------------------------------------------------------- promises and refusals


def test_each_example_follows_its_key_and_leaves_are_summed():
    process = PROCESSES["edm"]
    keys = jax.random.split(KEY, 6)
    x = {"a": jnp.linspace(-1, 1, 18).reshape(6, 3), "b": jnp.full((6, 2, 2), 0.3)}
    denoiser = jd.denoisers.gaussian(process, {"a": 0.2, "b": 0.1}, {"a": 0.5, "b": 0.7})
    times = grids.karras(process, 5)
    other = np.array([4, 2, 0, 2, 5, 1])
    runs = (continuous, lambda *a: discrete(*a, times))
    for run in runs:
        whole = run(keys, denoiser, x)
        moved = run(keys[other], denoiser, jax.tree.map(lambda leaf: leaf[other], x))
        for name in whole._fields:
            np.testing.assert_allclose(getattr(moved, name), getattr(whole, name)[other], rtol=1e-5)
    d = 7
    a, s = _ratios(process, process.t_min)
    np.testing.assert_allclose(
        continuous(keys, denoiser, x).reconstruction, d / 2 * np.log(2 * np.pi * np.e * (s / a) ** 2), rtol=1e-5
    )


def test_gradients_and_half_precision():
    """Gradients by the ends of a learned schedule agree with the closed form; bfloat16 data are computed in float32."""
    process = jd.processes.learned(KEY, -6.0, 1.0, hidden=8)
    x = jnp.full((N, 16), MEAN + STD)

    def total(process):
        return jnp.mean(continuous_time(KEY, _gaussian(process), x).nats) / 16

    gradient = jax.jit(jax.grad(total))(process)
    g = np.array([-6.0, 1.0])
    e = 1 / (1 + np.exp(g) / STD**2)  # at one standard deviation from the mean the squared error is its mean's
    np.testing.assert_allclose(gradient.gamma_min, 0.5 - e[0] / 2, atol=0.015)
    np.testing.assert_allclose(gradient.gamma_max, e[1] / 2 - (MEAN + STD) ** 2 * np.exp(-g[1]) / 2, atol=0.015)
    half = jax.eval_shape(continuous_time, KEY, _gaussian(process), x.astype(jnp.bfloat16))
    assert {leaf.dtype for leaf in half} == {jnp.dtype("float32")}


@pytest.mark.parametrize(("name", "steps"), [("vp_discrete", 100), ("flow", 1)])
def test_finite_at_both_ends_in_float32(name, steps):
    """With very little noise at the end, and on a grid from pure noise to none."""
    process = PROCESSES[name]
    process = dataclasses.replace(process, t_min=1e-3) if process.t_clean == 0 else process
    x = jnp.asarray(np.linspace(-1, 1, 256)[[3, 77, 250, 255]][:, None], jnp.float32)
    times = np.append(np.linspace(process.t_max, process.t_min, steps + 1)[:steps], process.t_clean)
    for bound in (
        continuous(KEY, _gaussian(process), x, levels=256),
        discrete(KEY, _gaussian(process), x, times, levels=256),
    ):
        assert np.isfinite(np.asarray(bound)).all()


def test_in_a_trace_and_outside():
    process = PROCESSES["vp_linear"]
    denoiser, x = _gaussian(process), jnp.full((4, 1), 0.3)
    for times in (grids.uniform_log_snr(process, 6), grids.karras(process, 6)):
        closed_over = jax.jit(lambda x, times=times: discrete_time(KEY, denoiser, x, times))(x)
        np.testing.assert_allclose(discrete(KEY, denoiser, x, times).nats, closed_over.nats, rtol=1e-4)


X = jnp.ones((2, 1))
VP = PROCESSES["vp_linear"]
GRID = grids.uniform_time(VP, 3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: continuous_time(KEY, _gaussian(PROCESSES["flow"]), X), ValueError, r"process.t_min = 0\.0.*Flow.*t_min=1e-3"),
        (lambda: continuous_time(KEY, _gaussian(VP), X, levels=1), ValueError, "levels = 1"),
        (lambda: continuous_time(KEY, _gaussian(VP), X, samples=0), ValueError, "samples = 0"),
        (lambda: continuous_time(KEY, lambda x, t: x, X), TypeError, "callables with a process"),
        (lambda: continuous_time(KEY, _gaussian(VP), X.astype(jnp.uint8)), TypeError, r"x\.dtype = uint8"),
        (lambda: continuous_time(jax.random.split(KEY, 3), _gaussian(VP), X), ValueError, r"\(3,\).*\(2,\)"),
        (lambda: discrete_time(KEY, _gaussian(VP), X, GRID, variance="fixed"), ValueError, "variance = 'fixed'.*'learned'"),
        (lambda: discrete_time(KEY, _gaussian(VP), X, GRID, variance="learned"), TypeError, "GaussianDenoiser.*from_network_with_variance"),
        (lambda: discrete_time(KEY, _gaussian(VP), X, GRID[::-1]), ValueError, "times = "),
        (lambda: discrete_time(KEY, _gaussian(VP), X, GRID, samples=0), ValueError, "samples = 0"),
    ],
)  # fmt: skip
def test_wrong_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()


class Scaled(jd.processes.VPLinear):
    """`vp_linear` times 3: the same model."""

    def alpha(self, t):
        return 3 * super().alpha(t)

    def sigma(self, t):
        return 3 * super().sigma(t)


@pytest.mark.parametrize("end", [1e-3, 0.0])
def test_the_scale_of_a_process_does_not_matter(end):
    plain = jd.processes.vp_linear()
    scaled = Scaled(**{name: getattr(plain, name) for name in ("beta_min", "beta_max", "t_min", "t_max")})
    times = np.append(grids.uniform_time(plain, 5)[:-1], end)
    x = jax.random.normal(KEY, (64, 1))
    one, other = (discrete(KEY, _gaussian(process), x, times).nats for process in (plain, scaled))
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_data_between_the_levels_are_refused():
    denoiser = _gaussian(PROCESSES["vp_linear"])
    for x in ([[0.0, 128.0]], [[0.001, 1.0]]):
        for bound in (continuous_time, lambda *a, **k: discrete_time(*a, np.array([1.0, 0.5, 0.0]), **k)):
            with pytest.raises(ValueError, match=r"range of x = .* with levels = 4"):
                bound(KEY, denoiser, jnp.asarray(x), levels=4)


@pytest.mark.parametrize(
    "process", [PROCESSES["vp_discrete"], jd.processes.learned(key=jax.random.key(0))], ids=["discrete", "learned"]
)
def test_float32_data_where_float64_is_allowed(process, x64):
    """Processes whose numbers are float64 then; the loops carry float32 all the same."""
    x = jnp.zeros((2, 3), jnp.float32)
    denoiser = jd.denoisers.gaussian(process)
    bounds = (
        continuous_time(jax.random.key(0), denoiser, x),
        discrete_time(jax.random.key(0), denoiser, x, grids.uniform_time(process, 3)),
    )
    for bound in bounds:
        assert bound.nats.dtype == jnp.float32
        assert np.all(np.isfinite(bound.nats))
