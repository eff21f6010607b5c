"""SDEdit, FlowEdit and interpolation against the exact maps of Gaussians."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import PROCESSES, least_probable_projection, mixture
from scipy.integrate import solve_ivp

import jaxdiff as jd
from jaxdiff import grids, solvers
from jaxdiff.posterior.editing import flow_edit, from_strength, sdedit, spherical

KEY = jax.random.key(0)
MEAN, STD = 0.5, 0.8
edit = jax.jit(sdedit)
move = jax.jit(flow_edit, static_argnames="draws")


@pytest.mark.parametrize("name", ["flow", "ve", "edm", "vp_discrete"])
def test_strength_chooses_the_first_level(name):
    process = PROCESSES[name]
    times = np.append(grids.uniform_time(process, 8)[:-1], process.t_clean)
    np.testing.assert_allclose(from_strength(times, 1.0), times)
    for strength, first in ((3 / 7, times[4]), (0.5, (times[3] + times[4]) / 2), (1e-6, times[7])):
        got = from_strength(times, strength)
        np.testing.assert_allclose(got[0], first, rtol=1e-5, atol=1e-5)
        assert got.shape == times.shape
        assert (got[1:] < got[:-1]).all()
        assert got[-1] == process.t_clean


@pytest.mark.parametrize("name", ["flow", "edm", "vp_linear"])
def test_sdedit_of_a_gaussian_is_the_map_of_the_ode(name):
    """`m + s/sqrt(v) (x_t - alpha m)` with `v = alpha^2 s^2 + sigma^2`, from several strengths."""
    process, n, x = PROCESSES[name], 20_000, 2.0
    denoiser = jd.denoisers.gaussian(process, MEAN, STD)
    for strength in (0.2, 0.6, 1.0):
        tableau = solvers.dpm_solver_pp(process, from_strength(grids.karras(process, 60), strength))
        alpha, sigma = process.alpha(tableau.times[0]), process.sigma(tableau.times[0])
        got = np.asarray(edit(KEY, denoiser, jnp.full((n, 1), x), tableau))
        slope = STD / np.sqrt(alpha**2 * STD**2 + sigma**2)
        spread = slope * sigma
        np.testing.assert_allclose(got.mean(), MEAN + slope * alpha * (x - MEAN), atol=5 * spread / np.sqrt(n) + 3e-3)
        np.testing.assert_allclose(got.std(), spread, rtol=5 / np.sqrt(2 * n) + 3e-3)


def test_the_ends_of_sdedit():
    """All of the strength forgets the picture and samples the prior; next to none leaves the picture."""
    process = PROCESSES["flow"]
    times = solvers.ddpm(process, 100).times
    times = np.append(times, 0.0)
    pictures = [jnp.full((4000, 2), value) for value in (0.0, 50.0)]
    one, other = (edit(KEY, mixture(process), x, solvers.ddpm(process, from_strength(times, 1.0))) for x in pictures)
    np.testing.assert_array_equal(one, other)
    assert least_probable_projection(one) > 1e-3
    picture = jnp.tile(jnp.asarray([[1.0, 0.5]]), (4000, 1))
    last = from_strength(times, 1e-9)
    kept = edit(KEY, mixture(process), picture, solvers.ddpm(process, last))
    assert np.abs(kept - picture).max() < 6 * last[0]


def test_sdedit_of_each_example_follows_its_key():
    process, keys, turned = PROCESSES["edm"], jax.random.split(KEY, 4), np.array([2, 0, 3, 1])
    x = jnp.arange(8.0).reshape(4, 2)
    tableau = solvers.ddpm(process, from_strength(grids.karras(process, 5), 0.5))
    one, other = (edit(k, mixture(process), x, tableau) for k, x in ((keys, x), (keys[turned], x[turned])))
    np.testing.assert_allclose(one[turned], other, rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------------------------------------- FlowEdit


@pytest.mark.parametrize("name", ["flow", "vp_cosine", "edm"])
def test_flow_edit_with_one_denoiser_moves_nothing(name):
    process, x = PROCESSES[name], jnp.arange(8.0).reshape(4, 2)
    got = move(KEY, mixture(process), mixture(process), x, grids.karras(process, 5))
    np.testing.assert_allclose(got, x, rtol=0, atol=1e-6)


def test_flow_edit_between_gaussians_of_one_width_moves_by_the_means():
    """From no signal, in any number of steps and for every noise: the difference stays `(1 - r)` times that of the means."""
    process = PROCESSES["flow"]
    one, other = ({"a": 1.0, "b": -1.0}, {"a": 3.0, "b": -0.5})
    source, target = (jd.denoisers.gaussian(process, mean, STD) for mean in (one, other))
    x = jd.prior_sample(KEY, process, {"a": jnp.zeros((4, 3)), "b": jnp.zeros((4, 2, 2))})
    got = move(jax.random.split(KEY, 4), source, target, x, np.array([1.0, 0.6, 0.5, 0.0]), draws=2)
    for name in x:
        np.testing.assert_allclose(got[name], x[name] + other[name] - one[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["flow", "edm", "vp_linear"])
def test_flow_edit_from_a_level_in_between(name):
    """The move is `1 - (1 - r) s/sqrt((1 - r)^2 s^2 + r^2)` of the difference of the means, in the limit of short steps."""
    process = PROCESSES[name]
    source, target = (jd.denoisers.gaussian(process, mean, STD) for mean in (0.0, 1.0))
    for strength in (0.4, 0.8):
        times = from_strength(grids.karras(process, 400), strength)
        r = process.sigma(times[0]) / (process.alpha(times[0]) + process.sigma(times[0]))
        wanted = 1 - (1 - r) * STD / np.hypot((1 - r) * STD, r)
        np.testing.assert_allclose(move(KEY, source, target, jnp.zeros((2, 1)), times), wanted, atol=0.01)


def test_flow_edit_between_gaussians_of_two_widths_on_average():
    """The mean over noises follows an ODE of one number, which SciPy solves."""
    process, n, x = PROCESSES["flow"], 20_000, 1.3
    (m1, s1), (m2, s2) = (0.2, 0.6), (1.0, 1.1)

    def slope(r, s):
        return (r - (1 - r) * s**2) / ((1 - r) ** 2 * s**2 + r**2)

    def rate(r, edited):
        at = edited + (1 - r) * x - x
        return slope(r, s2) * (at - (1 - r) * m2) - m2 - slope(r, s1) * (1 - r) * (x - m1) + m1

    wanted = solve_ivp(rate, (0.9, 0.0), [x], rtol=1e-9, atol=1e-9).y[0, -1]
    source, target = (jd.denoisers.gaussian(process, *both) for both in ((m1, s1), (m2, s2)))
    got = np.asarray(move(KEY, source, target, jnp.full((n, 1), x), np.linspace(0.9, 0.0, 201), draws=2))
    assert got.std() > 0.01
    np.testing.assert_allclose(got.mean(), wanted, atol=5 * got.std() / np.sqrt(n) + 0.01)
    assert abs(wanted - x) > 0.2


# -------------------------------------------------------------------------------------- interpolation


def test_the_arc_between_two_directions():
    """A turn at a constant rate, of directions given by their angle; and a norm that changes linearly."""
    angles, norms = np.array([0.3, 2.1]), np.array([2.0, 3.0])
    a, b = (n * np.array([[np.cos(t), np.sin(t)]]) for t, n in zip(angles, norms, strict=True))
    weights = np.array([0.0, 0.25, 0.5, 1.0, 1.2])
    got = np.asarray(spherical(np.tile(a, (5, 1)), np.tile(b, (5, 1)), weights))
    t, n = (first + weights * (second - first) for first, second in (angles, norms))
    np.testing.assert_allclose(got, n[:, None] * np.stack([np.cos(t), np.sin(t)], axis=1), rtol=1e-5, atol=1e-6)


def test_noise_stays_noise():
    """Halfway between two noises a line has lost a third of the norm, and the arc nothing; over all leaves together."""
    a, b = (
        {"a": jax.random.normal(k, (3, 40, 40)), "b": jax.random.normal(jax.random.fold_in(k, 1), (3, 500))}
        for k in jax.random.split(KEY, 2)
    )
    flat = [jnp.concatenate([side["a"].reshape(3, -1), side["b"]], axis=1) for side in (a, b)]
    got = spherical(a, b, 0.5)
    together = spherical(*flat, 0.5)
    np.testing.assert_allclose(got["a"].reshape(3, -1), together[:, :1600], rtol=1e-5, atol=1e-6)
    norms = np.linalg.norm(together, axis=1)
    np.testing.assert_allclose(
        norms, (np.linalg.norm(flat[0], axis=1) + np.linalg.norm(flat[1], axis=1)) / 2, rtol=1e-5
    )
    assert (np.linalg.norm((flat[0] + flat[1]) / 2, axis=1) < 0.75 * norms).all()


def test_equal_opposite_and_vanishing_directions():
    a = jnp.asarray([[1.0, 2.0], [1.0, 2.0], [0.0, 0.0]])
    b = jnp.asarray([[1.0, 2.0], [-1.0, -2.0], [3.0, 4.0]])
    np.testing.assert_allclose(spherical(a, b, 0.25), [[1.0, 2.0], [0.5, 1.0], [0.75, 1.0]], rtol=1e-5)


X = jnp.ones((4, 2))
FLOW = PROCESSES["flow"]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: from_strength(np.array([1.0, 0.5, 0.0]), 0.0), ValueError, r"strength = 0\.0"),
        (lambda: from_strength(np.array([1.0, 0.5, 0.0]), 1.5), ValueError, r"strength = 1\.5"),
        (lambda: from_strength(np.array([1.0, 0.0]), 0.5), ValueError, r"times\.shape = \(2,\)"),
        (lambda: sdedit(KEY, mixture(FLOW), X, 0.5), TypeError, r"tableau = 0\.5"),
        (lambda: flow_edit(KEY, mixture(FLOW), mixture(PROCESSES["edm"]), X, 5), ValueError, r"target\.process = EDM"),
        (lambda: flow_edit(KEY, mixture(FLOW), mixture(FLOW), X, 5, draws=0), ValueError, "draws = 0"),
        (lambda: flow_edit(jax.random.split(KEY, 3), mixture(FLOW), mixture(FLOW), X, 5), ValueError, r"key\.shape = \(3,\)"),
        (lambda: spherical(X, X[:2], 0.5), ValueError, "shape of b"),
        (lambda: spherical(X, X, jnp.ones(3)), ValueError, r"weight\.shape = \(3,\)"),
    ],
)  # fmt: skip
def test_wrong_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()
