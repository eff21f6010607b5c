"""VDM's learned schedule: a monotone function with exact ends, a process like any other, and a result of learning."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from common import MEANS, STDS, WEIGHTS
from scipy import integrate

import jaxdiff as jd
from jaxdiff import processes
from jaxdiff.arithmetic import derivative
from jaxdiff.processes import diffusion, drift, log_snr, on_host, time_of_log_snr

LOW, HIGH = -9.0, 4.0
make = functools.partial(processes.learned, gamma_min=LOW, gamma_max=HIGH, hidden=16)


def _random(seed):
    """A schedule with random weights, far from the initial ones."""
    rng = np.random.default_rng(seed)
    process = make(jax.random.key(seed))
    moved = {
        "log_slope": rng.normal() - 1,
        "log_inner": rng.normal(size=16) * 1.5 + 2,
        "bias": rng.normal(size=16) * 8 - 4,
        "log_outer": rng.normal(size=16) - 1,
    }
    return dataclasses.replace(process, **moved)


PROCESS = make(jax.random.key(0))


def test_formula():
    """The formula of VDM's appendix H with plain sigmoids, including the two biases that change nothing."""
    process = _random(3)
    w1, w2, w3 = np.exp(process.log_slope), np.exp(process.log_inner), np.exp(process.log_outer)

    def network(t):
        h = w1 * t + 0.7  # a bias of l_1 moves l_2's
        return h + np.sum(w3 / (1 + np.exp(-(w2 * h + process.bias - 0.7 * w2)))) - 0.4

    for t in (0.0, 0.2, 0.71, 1.0):
        gamma = LOW + (HIGH - LOW) * (network(t) - network(0.0)) / (network(1.0) - network(0.0))
        host, device = process.gamma(np.float64(t)), process.gamma(jnp.asarray(t))
        np.testing.assert_allclose(host, gamma, rtol=1e-12, atol=1e-11)
        np.testing.assert_allclose(device, gamma, rtol=2e-6, atol=1e-5)
        np.testing.assert_allclose(process.alpha(np.float64(t)) ** 2, 1 / (1 + np.exp(gamma)), rtol=1e-11)
        np.testing.assert_allclose(process.sigma(np.float64(t)) ** 2, 1 / (1 + np.exp(-gamma)), rtol=1e-11)


@pytest.mark.parametrize("seed", range(5))
def test_monotone_with_exact_ends(seed):
    process = _random(seed)
    times = np.linspace(-0.5, 1.5, 401)
    assert np.all(np.diff(process.gamma(times)) > 0)
    assert process.gamma(np.float64(0.0)) == LOW
    np.testing.assert_allclose(process.gamma(np.float64(1.0)), HIGH, rtol=1e-15)
    assert process.alpha(times).dtype == process.sigma(times).dtype == np.float64
    np.testing.assert_allclose(process.alpha(times) ** 2 + process.sigma(times) ** 2, 1.0, rtol=1e-14)


@pytest.mark.parametrize("hidden", [16, 1024])
def test_begins_near_a_line(hidden):
    times = np.linspace(0, 1, 101)
    progress = on_host(processes.learned(jax.random.key(1), hidden=hidden)).progress(times)
    assert np.abs(progress - times).max() < 0.04
    assert progress[0] == 0.0
    assert progress[-1] == 1.0


def test_end_without_noise_is_reached_without_a_warning():
    with np.errstate(all="raise", under="ignore"):
        process = on_host(PROCESS)
        assert process.t_clean == -np.inf
        assert process.sigma(np.float64(-np.inf)) == 0.0
        assert process.alpha(np.float64(-np.inf)) == 1.0
        assert time_of_log_snr(process, np.inf) == -np.inf
        times = jd.grids.karras(process, 1000)
        assert times[-1] == -np.inf
        assert np.isfinite(jd.solvers.dpm_solver_pp(process, times, order=3).state).all()


def test_inverse_and_sde():
    process, times = on_host(_random(1)), np.linspace(0.01, 0.99, 7)
    np.testing.assert_allclose(time_of_log_snr(process, log_snr(process, times)), times, rtol=1e-9)
    # f = d log alpha/dt and, for processes that preserve variance, g^2 = -2 f.
    h = 1e-6
    slope = (np.log(process.alpha(times + h)) - np.log(process.alpha(times - h))) / (2 * h)
    np.testing.assert_allclose(drift(process, times), slope, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(diffusion(process, times) ** 2, -2 * slope, rtol=1e-4, atol=1e-7)


def test_gradients_of_all_leaves(x64):
    process = on_host(_random(2))
    assert len(jax.tree.leaves(process)) == 6  # t_min and t_max are not among them

    def functional(p, xp=jnp):
        t = xp.asarray([0.0, 0.23, 0.6, 1.0])
        return xp.sum(p.gamma(t) * xp.asarray([0.3, 1.0, -2.0, 0.4])) + xp.sum(p.alpha(t) ** 3 - p.sigma(t))

    gradient = jax.jit(jax.grad(functional))(jax.tree.map(jnp.asarray, process))
    leaves, structure = jax.tree.flatten(process)
    for i, (leaf, slope) in enumerate(zip(leaves, jax.tree.leaves(gradient), strict=True)):
        direction = np.random.default_rng(i).normal(size=np.shape(leaf))
        bumped = [
            functional(jax.tree.unflatten(structure, [*leaves[:i], leaf + h * direction, *leaves[i + 1 :]]), np)
            for h in (1e-6, -1e-6)
        ]
        np.testing.assert_allclose(np.sum(slope * direction), (bumped[0] - bumped[1]) / 2e-6, rtol=1e-6, atol=1e-8)
        assert np.all(np.isfinite(slope))


def test_is_a_process_like_any_other():
    """Its velocity target is right, and a solver on a grid of its own reaches the moments of the data."""
    process, parametrization = PROCESS, jd.parametrizations.velocity()
    t, host = np.array([0.1, 0.5, 0.9]), on_host(process)
    p, q = jax.jit(lambda t: parametrization.target(process, t))(jnp.asarray(t))
    h = 1e-6
    slopes = [(f(t + h) - f(t - h)) / (2 * h) for f in (host.alpha, host.sigma)]
    np.testing.assert_allclose(p, slopes[0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(q, slopes[1], rtol=1e-4, atol=1e-6)
    denoiser = jd.denoisers.gaussian_mixture(process, WEIGHTS, MEANS, STDS)
    noise = jd.prior_sample(jax.random.key(1), process, (20_000, 2))
    tableau = jd.solvers.dpm_solver_pp(process, jd.grids.uniform_log_snr(process, 30), order=2)
    got = np.asarray(jax.jit(jd.sample)(jax.random.key(2), denoiser, noise, tableau))
    mean = WEIGHTS @ MEANS
    variance = WEIGHTS @ (MEANS**2 + STDS[:, None] ** 2) - mean**2
    # The prior N(0, sigma_T^2) is not quite the marginal at t_max, where 0.13 of the signal is left.
    np.testing.assert_allclose(got.mean(0), mean, atol=0.05)
    np.testing.assert_allclose(got.var(0), variance, rtol=0.08)


def _error(gamma, std):
    """`E|eps - eps_hat|^2` per coordinate of Gaussian data, `SNR std^2/(1 + SNR std^2)`."""
    return 1 / (1 + np.exp(gamma) / std**2)


def test_the_bound_does_not_depend_on_the_inside():
    """VDM, section 5.1. For three schedules the integral over time, by quadrature, equals its closed form."""
    std, t = 0.3, np.linspace(0, 1, 4001)
    exact = (np.log1p(std**2 * np.exp(-LOW)) - np.log1p(std**2 * np.exp(-HIGH))) / 2
    for process in (PROCESS, _random(0), _random(4)):
        process = on_host(process)
        rate = -np.asarray(derivative(lambda t, p=process: log_snr(p, t), t))
        assert np.abs(rate / (HIGH - LOW) - 1).max() > 0.05
        total = integrate.simpson(rate * _error(process.gamma(t), std) / 2, x=t)
        np.testing.assert_allclose(total, exact, rtol=1e-6)


def test_least_variance_is_learned():
    """Minimising the square of the loss makes the loss constant in time (VDM, appendix I.2).

    For Gaussian data the loss of the exact network is `gamma' sigmoid(log std^2 - gamma)`. It is constant where
    `log(1 + std^2 SNR)` is linear in time.
    """
    std, d = 2.0, 64
    parametrization = jd.parametrizations.eps(jd.parametrizations.log_ratio_time_input)

    def network(params, x, time):
        ratio = jnp.exp(4 * time)[:, None]
        alpha2 = 1 / (1 + ratio**2)
        return jnp.sqrt(1 - alpha2) / (alpha2 * std**2 + 1 - alpha2) * x

    def losses(process, key):
        objective = jd.objectives.denoising(
            process, parametrization, network, weighting=jd.objectives.weightings.likelihood(),
            times=jd.objectives.times.stratified(),
        )  # fmt: skip
        return objective(None, key, {"x": std * jax.random.normal(jax.random.fold_in(key, 1), (64, d))})[0]

    optimizer = optax.adam(0.1)

    @jax.jit
    def train(process):
        def step(carry, key):
            process, state = carry
            gradient = jax.grad(lambda p: jnp.log(jnp.mean(losses(p, key) ** 2)))(process)
            gradient = dataclasses.replace(
                gradient, gamma_min=0.0, gamma_max=0.0
            )  # the ends are learned by the bound, not here
            updates, state = optimizer.update(gradient, state)
            return (optax.apply_updates(process, updates), state), None

        keys = jax.random.split(jax.random.key(0), 200)
        return jax.lax.scan(step, (process, optimizer.init(process)), keys)[0][0]

    before = jax.tree.map(jnp.asarray, PROCESS)
    after = train(before)
    assert after.gamma_min == before.gamma_min
    t = np.linspace(0, 1, 201)
    ends = np.log1p(std**2 * np.exp(-np.array([LOW, HIGH])))
    mean = ends[0] - ends[1]  # of the loss: -d log SNR/dt (eps - eps_hat)^2 over time and coordinates
    line = ends[0] - mean * t
    distance = [np.abs(np.log1p(std**2 * np.exp(-on_host(p).gamma(t))) - line).max() / mean for p in (before, after)]
    spread = [np.std(jax.jit(losses)(p, jax.random.key(9))) for p in (before, after)]
    assert distance[0] > 0.15
    assert distance[1] < 0.06
    # At each time the squared error of d coordinates is chi-squared. Its variance stays, most of the rest is gone.
    excess = [s**2 - mean**2 * 2 / d for s in spread]
    assert 0 < excess[1] < 0.25 * excess[0]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: processes.learned(jax.random.key(0), 5.0, -13.3),
            ValueError,
            r"\(gamma_min, gamma_max\) = \(5.0, -13.3\)",
        ),
        (
            lambda: processes.learned(jax.random.key(0), -np.inf, 1.0),
            ValueError,
            r"\(gamma_min, gamma_max\) = \(-inf, 1.0\)",
        ),
        (lambda: processes.learned(jax.random.key(0), hidden=0), ValueError, "hidden = 0"),
        (lambda: processes.learned(jax.random.key(0), hidden=2.5), ValueError, "hidden = 2.5"),
        (lambda: processes.learned(0), TypeError, "key = 0"),
    ],
)
def test_wrong_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()
