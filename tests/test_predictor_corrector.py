"""Langevin correctors keep the marginals, in closed form and by distribution; and the sampler around them."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import MEANS, PROCESSES, STDS, WEIGHTS, mixture
from scipy import stats

import jaxdiff as jd
from jaxdiff import grids, solvers
from jaxdiff.sampling import annealed_langevin, langevin, predictor_corrector

KEY = jax.random.key(0)
PROCESS = PROCESSES["vp_linear"]
draw = jax.jit(predictor_corrector)
sample = jax.jit(jd.sample)


@jax.jit
def correct(key, denoiser, x, t, corrector):
    return corrector(key, denoiser, x, t)


def _marginal(process, mean, std, t, shape, seed):
    """Samples of the exact marginal of Gaussian data at t."""
    alpha, sigma = process.alpha(t), process.sigma(t)
    v = alpha**2 * std**2 + sigma**2
    return alpha * mean + np.sqrt(v) * np.random.default_rng(seed).normal(size=shape), v


@pytest.mark.parametrize("name", ["vp_linear", "sub_vp", "ve"])
@pytest.mark.parametrize("snr", [0.16, 0.5])
def test_one_annealed_step_of_a_gaussian_in_closed_form(name, snr):
    """`x <- x + e score + sqrt(2 e) z` with `e = 2 (snr sigma)^2` is affine: the mean and variance after one step."""
    process, n, t = PROCESSES[name], 200_000, 0.3
    alpha, sigma = process.alpha(np.float64(t)), process.sigma(np.float64(t))
    v, step = alpha**2 * 0.7**2 + sigma**2, 2 * (snr * sigma) ** 2
    x = jnp.full((n, 1), alpha + 0.5)
    got = np.asarray(correct(KEY, jd.denoisers.gaussian(process, 1.0, 0.7), x, t, annealed_langevin(snr)), np.float64)
    mean, variance = alpha + 0.5 - step * 0.5 / v, 2 * step
    np.testing.assert_allclose(got.mean(), mean, atol=5 * np.sqrt(variance / n))
    np.testing.assert_allclose(got.var(), variance, rtol=5 * np.sqrt(2 / n))


def test_one_langevin_step_against_its_formula():
    """`e = 2 (snr |z|/|score|)^2`, written out with the score itself; the noise is that of the same key."""
    process, t, snr = PROCESSES["sub_vp"], 0.4, 0.3
    denoiser = mixture(process)
    x = np.random.default_rng(0).normal(size=(16, 2))
    x32 = jnp.asarray(x, jnp.float32)
    # At a zero of eps nothing moves along the score, so that annealed Langevin adds its noise alone.
    still = jd.denoisers.gaussian(process, 0.0, 0.0)
    noise = np.asarray(correct(KEY, still, jnp.zeros((16, 2)), t, annealed_langevin(0.5)), np.float64)
    z = noise / (2 * 0.5 * process.sigma(t))
    score = np.asarray(jd.denoisers.score(denoiser, x32, t), np.float64)
    step = 2 * (snr * np.linalg.norm(z, axis=1) / np.linalg.norm(score, axis=1)) ** 2
    wanted = x + step[:, None] * score + np.sqrt(2 * step)[:, None] * z
    np.testing.assert_allclose(correct(KEY, denoiser, x32, t, langevin(snr)), wanted, rtol=2e-4, atol=2e-5)


def test_annealed_langevin_keeps_the_marginal_of_the_mixture():
    """500 small steps at a fixed time keep the exact marginal, and lead into it from elsewhere."""
    process, t, n = PROCESS, 0.25, 4000
    alpha, sigma = process.alpha(t), process.sigma(t)
    rng = np.random.default_rng(1)
    k = rng.choice(3, n, p=WEIGHTS)
    stds = np.sqrt(alpha**2 * STDS**2 + sigma**2)
    inside = alpha * MEANS[k] + stds[k, None] * rng.normal(size=(n, 2))
    outside = 0.3 * rng.normal(size=(n, 2))
    for x in (inside, outside):
        got = np.asarray(correct(KEY, mixture(process), jnp.asarray(x, jnp.float32), t, annealed_langevin(0.08, 500)))
        for direction in (np.array([1.0, 0.0]), np.array([0.6, 0.8])):
            cdf = lambda y, d=direction: sum(  # noqa: E731
                w * stats.norm.cdf(y, alpha * m @ d, s) for w, m, s in zip(WEIGHTS, MEANS, stds, strict=True)
            )
            assert stats.kstest(got @ direction, cdf).pvalue > 1e-3


def test_langevin_keeps_the_marginal_of_many_coordinates():
    """Norms over 192 coordinates hardly vary. Norms over two vary, and the marginal is lost: see `annealed_langevin`."""
    process, t = PROCESS, 0.25
    denoiser = jd.denoisers.gaussian(process, 1.0, 0.7)
    alpha = process.alpha(t)
    x, v = _marginal(process, 1.0, 0.7, t, (50, 192), 2)
    got = np.asarray(correct(KEY, denoiser, jnp.asarray(x, jnp.float32), t, langevin(0.08, 200)))
    assert stats.kstest(got.ravel(), stats.norm(alpha, np.sqrt(v)).cdf).pvalue > 1e-3
    assert np.abs(got - x).max() > 1  # it has moved
    few, _ = _marginal(process, 1.0, 0.7, t, (4800, 2), 3)
    got = np.asarray(correct(KEY, denoiser, jnp.asarray(few, jnp.float32), t, langevin(0.08, 200)))
    assert np.isfinite(got).all()
    assert stats.kstest(got.ravel(), stats.norm(alpha, np.sqrt(v)).cdf).pvalue < 1e-3


def test_stationary_variance_of_annealed_langevin():
    """The variance after the discretisation is `v/(1 - snr^2 sigma^2/v)`, the formula of the docstring."""
    process, t, snr = PROCESSES["ve"], 0.7, 0.5
    sigma = process.sigma(np.float64(t))
    x, v = _marginal(process, 0.0, 2.0, t, (100_000, 1), 4)
    got = np.asarray(
        correct(
            KEY, jd.denoisers.gaussian(process, 0.0, 2.0), jnp.asarray(x, jnp.float32), t, annealed_langevin(snr, 20)
        )
    )
    np.testing.assert_allclose(got.var(), v / (1 - snr**2 * sigma**2 / v), rtol=5 * np.sqrt(2 / 100_000))


def _projected_cdf(z, direction):
    return sum(w * stats.norm.cdf(z, m @ direction, s) for w, m, s in zip(WEIGHTS, MEANS, STDS, strict=True))


@pytest.mark.parametrize(
    "solver", [solvers.ddpm, functools.partial(solvers.dpm_solver_pp, order=2)], ids=["ddpm", "2M"]
)
def test_reaches_the_exact_marginal(solver):
    process = jd.processes.edm(0.01, 40.0)
    tableau = solver(process, grids.karras(process, 100))
    noise = jd.prior_sample(jax.random.key(1), process, (6000, 2))
    got = np.asarray(draw(KEY, mixture(process), noise, tableau, annealed_langevin(0.1)))
    for angle in (0.0, 1.0, 2.2):
        direction = np.array([np.cos(angle), np.sin(angle)])
        p = stats.kstest(got @ direction, functools.partial(_projected_cdf, direction=direction)).pvalue
        assert p > 1e-3, (angle, p)


def test_correctors_mend_a_coarse_predictor():
    """On VE, five Euler steps miss the spread of the data; the same steps with corrections come closer."""
    process = PROCESSES["ve"]
    denoiser = jd.denoisers.gaussian(process, 0.5, 0.7)
    tableau = solvers.euler(process, grids.uniform_time(process, 5))
    noise = jd.prior_sample(jax.random.key(1), process, (500, 64))
    plain, corrected = (
        np.asarray(draw(KEY, denoiser, noise, tableau, corrector)).std()
        for corrector in (langevin(0.16, 0), langevin(0.16, 20))
    )
    assert abs(plain - 0.7) > 0.1
    assert abs(corrected - 0.7) < 0.5 * abs(plain - 0.7)


@pytest.mark.parametrize(
    ("corrector", "key"),
    [(langevin(steps=0), KEY), (annealed_langevin(0.0), jax.random.split(KEY, 4)), (langevin(0.0, 2), KEY)],
)
def test_without_correction_it_is_sampling(corrector, key):
    """The history and the noise of the tableau are those of `sample`, for one key and for one key per example."""
    noise = jd.prior_sample(KEY, PROCESS, (4, 2))
    tableau = solvers.dpm_solver_pp(PROCESS, grids.uniform_log_snr(PROCESS, 6), order=2, tau=0.5)
    wanted = sample(key, mixture(PROCESS), noise, tableau)
    np.testing.assert_allclose(draw(key, mixture(PROCESS), noise, tableau, corrector), wanted, rtol=1e-5, atol=1e-6)


def test_every_time_has_its_corrections_and_one_evaluation():
    times, asked = grids.uniform_time(PROCESS, 4), []

    def apply(params, x, t):
        jax.debug.callback(lambda t: asked.append(float(t[0])), t, ordered=True)
        return 0.1 * x

    denoiser = jd.denoisers.from_network(
        PROCESS, jd.parametrizations.v(jd.parametrizations.raw_time_input), apply, None
    )
    predictor_corrector(KEY, denoiser, jnp.ones((2, 3)), solvers.ddpm(PROCESS, times), langevin(steps=2))
    jax.effects_barrier()
    np.testing.assert_allclose(asked, np.repeat(times[:-1], 3), rtol=1e-6)


def test_no_noise_is_drawn_twice():
    """With estimates eps = 0 the samples are a sum of noise. Its variance is the sum of the variances of all draws, of the
    solver and of the corrector, only if the draws are independent.
    """
    process = PROCESSES["edm"]
    times = np.array([4.0, 3.0, 2.0, 1.0])
    denoiser = jd.denoisers.gaussian(process, 0.0, 1e6)  # eps is 0: the data may be anything
    n, snr, steps = 100_000, 0.4, 2
    got = np.asarray(
        draw(KEY, denoiser, jnp.zeros((n, 1)), solvers.ddpm(process, times), annealed_langevin(snr, steps)), np.float64
    )
    own = sum(s**2 * (t**2 - s**2) / t**2 for t, s in itertools.pairwise(times))
    corrections = sum(steps * 4 * (snr * t) ** 2 for t in times[:-1])
    np.testing.assert_allclose(got.var(), own + corrections, rtol=5 * np.sqrt(2 / n))


@jax.tree_util.register_static
class Both:
    """Two correctors, one after the other, in one program."""

    steps = 2

    def __call__(self, key, denoiser, x, t):
        return annealed_langevin()(key, denoiser, langevin()(key, denoiser, x, t), t)


@pytest.mark.parametrize("name", ["sub_vp", "vp_discrete", "flow", "vp_cosine", "trigonometric", "ve"])
def test_finite_from_pure_noise_to_none(name):
    process = PROCESSES[name]
    times = np.append(grids.uniform_time(process, 8)[:-1], process.t_clean)
    noise = jd.prior_sample(KEY, process, (4, 2))
    got = draw(KEY, mixture(process), noise, solvers.ddpm(process, times), Both())
    assert got.dtype == jnp.float32
    assert np.isfinite(got).all()


def test_a_zero_score_moves_nothing():
    still = jd.denoisers.gaussian(PROCESS, 0.0, 1.0)
    np.testing.assert_array_equal(correct(KEY, still, jnp.zeros((2, 3)), 0.5, langevin()), 0.0)


def test_each_example_follows_its_key_and_snr_may_be_traced():
    keys = jax.random.split(KEY, 6)
    x = {"a": jax.random.normal(KEY, (6, 3)), "b": jax.random.normal(KEY, (6, 2, 2))}
    denoiser = jd.denoisers.gaussian(PROCESS, {"a": 1.0, "b": -1.0}, {"a": 0.5, "b": 0.3})
    tableau = solvers.ddpm(PROCESS, grids.uniform_time(PROCESS, 4))
    other = np.array([4, 2, 0, 2, 5, 1])  # another batch of the same size: nothing is compiled anew
    for corrector in (annealed_langevin(0.2), langevin(0.2)):
        one = draw(keys, denoiser, x, tableau, corrector)
        moved = draw(keys[other], denoiser, jax.tree.map(lambda leaf: leaf[other], x), tableau, corrector)
        for name in x:
            np.testing.assert_allclose(moved[name], one[name][other], rtol=1e-4, atol=1e-5)
    several = jax.vmap(lambda snr: predictor_corrector(keys, denoiser, x, tableau, langevin(snr)))(
        jnp.array([0.1, 0.2])
    )
    np.testing.assert_allclose(several["a"][1], one["a"], rtol=1e-4, atol=1e-5)
    assert np.abs(several["a"][0] - one["a"]).max() > 1e-2


X = jnp.ones((4, 2))
TABLEAU = solvers.ddpm(PROCESS, grids.uniform_time(PROCESS, 3))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: langevin(snr=-0.1), ValueError, "snr = -0.1"),
        (lambda: annealed_langevin(snr=np.inf), ValueError, "snr = inf"),
        (lambda: langevin(steps=1.5), ValueError, "steps = 1.5"),
        (lambda: annealed_langevin(steps=-1), ValueError, "steps = -1"),
        (lambda: predictor_corrector(KEY, mixture(PROCESS), X, solvers.heun(PROCESS, grids.uniform_time(PROCESS, 3)), langevin()), ValueError, "tableau.points = 2.*ddpm"),
        (lambda: predictor_corrector(KEY, mixture(PROCESS), X, TABLEAU, "langevin"), TypeError, "corrector = 'langevin'"),
    ],
)  # fmt: skip
def test_wrong_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()
