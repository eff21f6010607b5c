"""Inversions: samplers reproduce the data that were inverted, and closed forms say how."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import PROCESSES, mixture

import jaxdiff as jd
from jaxdiff import grids, solvers, trees
from jaxdiff.posterior.editing import edit_friendly, invert, replay

KEY = jax.random.key(0)
MEAN, STD = 0.5, 0.75
inverse = jax.jit(invert, static_argnames="sweeps")
sample = jax.jit(jd.sample)
find, again = jax.jit(edit_friendly), jax.jit(replay)


def _times(process, steps):
    return np.append(grids.uniform_log_snr(process, steps)[:-1], process.t_clean)


DETERMINISTIC = {
    "ddim": solvers.ddim,
    "2M": functools.partial(solvers.dpm_solver_pp, order=2),
    "noise prediction": functools.partial(solvers.deis, order=2),
    "velocity prediction": functools.partial(solvers.exponential, order=4, prediction="velocity"),
}


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_the_sampler_makes_the_inverted_data_again(name):
    """Of any order and prediction, with a last step to no noise where the solver has one; one sweep alone is far off."""
    process = PROCESSES["flow"]
    times = np.linspace(0.98, 0.02 if name == "noise prediction" else 0.0, 17)
    tableau = DETERMINISTIC[name](process, times)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(64, 2)), jnp.float32)
    errors = [
        np.abs(sample(KEY, mixture(process), inverse(mixture(process), x, tableau, sweeps=n), tableau) - x).max()
        for n in (1, 16)
    ]
    assert errors[1] < 1e-4
    assert errors[0] > 0.05


def test_the_inverse_of_a_gaussian_follows_the_ode():
    """`alpha m + sqrt(v)/s (x - m)`, and `likelihood.encode` on the same grid."""
    process = PROCESSES["vp_linear"]
    denoiser = jd.denoisers.gaussian(process, {"a": MEAN, "b": -MEAN}, STD)
    x = {"a": jnp.asarray([[2.0], [-1.0]]), "b": jnp.ones((2, 2, 2))}
    times = grids.uniform_log_snr(process, 40)
    got = inverse(denoiser, x, solvers.dpm_solver_pp(process, times, order=2), sweeps=8)
    alpha, sigma = process.alpha(times[0]), process.sigma(times[0])
    slope = np.hypot(alpha * STD, sigma) / STD
    encoded = jax.jit(jd.likelihood.encode)(denoiser, x, times=times)
    for name, mean in (("a", MEAN), ("b", -MEAN)):
        np.testing.assert_allclose(got[name], alpha * mean + slope * (x[name] - mean), rtol=0.02, atol=0.02)
        np.testing.assert_allclose(got[name], encoded[name], rtol=0.02, atol=0.02)


# ------------------------------------------------------------------------------ edit-friendly inversion

NOISY = {
    "ddpm": solvers.ddpm,
    "2M with noise": functools.partial(solvers.dpm_solver_pp, order=2, tau=1.0),
    "ddim": solvers.ddim,
}


@pytest.mark.parametrize("name", NOISY)
def test_the_same_denoiser_reproduces_the_data(name):
    """Pytrees; any solver, also without noise of its own; to rounding. Other noises give other data."""
    process = PROCESSES["vp_linear"]
    denoiser = jd.denoisers.gaussian(process, {"a": 1.0, "b": -1.0}, 0.5)
    x = {"a": jnp.arange(6.0).reshape(2, 3) / 4, "b": jnp.ones((2, 2, 2))}
    tableau = NOISY[name](process, _times(process, 12))
    noises = find(KEY, denoiser, x, tableau)
    got = again(denoiser, noises, tableau)
    for leaf in x:
        np.testing.assert_allclose(got[leaf], x[leaf], rtol=1e-5, atol=1e-5)
    assert jax.tree.leaves(noises.steps)[0].shape == (len(tableau), 2, 3)
    nothing = trees.lincomb((0.0,), (noises.steps,))
    plain = again(denoiser, type(noises)(noises.x, nothing), tableau)
    assert np.abs(plain["a"] - x["a"]).max() > 0.05


def test_the_noises_against_a_reading_of_the_paper(x64):
    """Equations 5 and 6: `x_t = sqrt(bar_t) x + sqrt(1 - bar_t) eps_t`, `z_t = (x_{t-1} - mu_t(x_t))/sigma_t`."""
    process = jd.processes.vp_linear()
    times = grids.uniform_time(process, 6)
    x = np.random.default_rng(0).normal(size=(3, 2))
    tableau = solvers.ddpm(process, times)
    got = find(KEY, jd.denoisers.gaussian(process, MEAN, STD), jnp.asarray(x), tableau)
    bar = process.alpha(times) ** 2
    path = [
        np.sqrt(bar[i]) * x
        + np.sqrt(1 - bar[i]) * np.asarray(trees.normal_like(jax.random.fold_in(KEY, i), jnp.asarray(x)))
        for i in range(6)
    ] + [x]
    np.testing.assert_allclose(got.x, path[0], rtol=1e-10)
    for i in range(6):
        beta = 1 - bar[i] / bar[i + 1]
        eps = np.sqrt(1 - bar[i]) * (path[i] - np.sqrt(bar[i]) * MEAN) / (bar[i] * STD**2 + 1 - bar[i])
        mean = (path[i] - beta / np.sqrt(1 - bar[i]) * eps) / np.sqrt(1 - beta)
        np.testing.assert_allclose(got.steps[i], path[i + 1] - mean, rtol=1e-8, atol=1e-10)


def test_an_edit_between_gaussians_of_one_width_moves_by_the_means():
    """From no signal the points of the path differ by alpha times the difference of the means, at every level."""
    process = PROCESSES["flow"]
    source, target = (jd.denoisers.gaussian(process, mean, STD) for mean in (0.3, 1.7))
    x = jnp.arange(8.0).reshape(4, 2) / 4
    tableau = solvers.ddpm(process, grids.uniform_time(process, 8))
    noises = find(jax.random.split(KEY, 4), source, x, tableau)
    np.testing.assert_allclose(again(target, noises, tableau), x + 1.4, rtol=1e-5, atol=1e-5)


X = jnp.ones((4, 2))
FLOW = PROCESSES["flow"]
DDIM = solvers.ddim(FLOW, 3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: invert(mixture(FLOW), X, solvers.ddpm(FLOW, 3)), ValueError, "tableau.noise.*draw no noise"),
        (lambda: invert(mixture(FLOW), X, solvers.heun(FLOW, 3)), ValueError, "tableau.points = 2"),
        (lambda: invert(mixture(FLOW), X, DDIM, sweeps=0), ValueError, "sweeps = 0"),
        (lambda: invert(mixture(FLOW), X, 3), TypeError, "tableau = 3"),
        (lambda: edit_friendly(KEY, mixture(PROCESSES["edm"]), X, DDIM), ValueError, r"denoiser\.process"),
        (lambda: replay(mixture(FLOW), X, DDIM), TypeError, "noises = "),
        (lambda: replay(mixture(FLOW), edit_friendly(KEY, mixture(FLOW), X, DDIM), DDIM[:2]), ValueError, r"number of steps of noises = \{3\}"),
    ],
)  # fmt: skip
def test_wrong_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()
