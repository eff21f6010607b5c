"""Feynman-Kac steering against the exact tilted distribution of what the sampler draws."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from moments import of_gaussian

import jaxdiff as jd
from jaxdiff import grids, solvers, trees
from jaxdiff.posterior import steer

KEY = jax.random.key(0)
PROCESS = jd.processes.edm(0.05, 20.0)
POPULATIONS, COUNT, MEAN, STD, GOAL = 16, 500, 0.5, 0.8, 1.5
run = jax.jit(steer, static_argnames=("reward", "potential", "populations"))


def reward(x0):
    """How near x0 is to a goal."""
    return -jnp.sum((x0 - GOAL) ** 2, axis=-1) / 2


@functools.cache
def _case(solver):
    tableau = solver(PROCESS, grids.karras(PROCESS, 8))
    z = np.random.default_rng(0).normal(size=(POPULATIONS * COUNT, 1))
    x = MEAN + np.sqrt(STD**2 + PROCESS.t_max**2) * z
    return jd.denoisers.gaussian(PROCESS, MEAN, STD), jnp.asarray(x, jnp.float32), tableau


SOLVERS = {"ddpm": solvers.ddpm, "2M with noise": functools.partial(solvers.dpm_solver_pp, order=2, tau=1.0)}


@pytest.mark.parametrize(
    ("solver", "potential"), [("ddpm", "difference"), ("ddpm", "max"), ("ddpm", "sum"), ("2M with noise", "difference")]
)
def test_the_tilted_distribution_is_exact_with_any_potential(solver, potential):
    """The mean, the mean square and the evidence, for two scales, with and without resampling."""
    denoiser, x, tableau = _case(SOLVERS[solver])
    m, v = of_gaussian(tableau, MEAN, STD)
    most = 0.25 if potential == "sum" else 1.5  # the sum of eight rewards is nearly eight times the last one
    for scale, resample_below in ((most, 0.7), (most, 0.0), (most / 3, 0.9)):
        particles = run(
            KEY, denoiser, x, tableau, reward, scale=scale, potential=potential, populations=POPULATIONS,
            resample_below=resample_below,
        )  # fmt: skip
        samples = np.asarray(particles.x, np.float64).reshape(POPULATIONS, COUNT)
        weights = np.asarray(particles.weights, np.float64)
        values = np.stack(
            [(weights * samples).sum(1), (weights * samples**2).sum(1), np.asarray(particles.log_evidence)]
        )
        got, error = values.mean(axis=1), 4 * values.std(axis=1) / np.sqrt(POPULATIONS - 1)
        variance = 1 / (1 / v + scale)
        mean = variance * (m / v + scale * GOAL)
        evidence = -(np.log(1 + scale * v) + scale * (GOAL - m) ** 2 / (1 + scale * v)) / 2
        assert error.max() < 0.3  # the test can fail
        np.testing.assert_array_less(np.abs(got - [mean, variance + mean**2, evidence]), error + 1e-4)


def test_a_scale_of_0_is_sampling():
    denoiser, x, tableau = _case(solvers.ddpm)
    particles = run(KEY, denoiser, x, tableau, reward, scale=0.0, potential="sum", populations=POPULATIONS)
    np.testing.assert_array_equal(particles.log_weights, 0)
    for_noise, _ = jd.trees.split(KEY, 2)
    np.testing.assert_allclose(particles.x, jax.jit(jd.sample)(for_noise, denoiser, x, tableau), rtol=1e-5, atol=1e-5)


@trees.register
@dataclasses.dataclass(frozen=True)
class Counting:
    """A denoiser that remembers its points, and how often it was asked."""

    inner: jd.denoisers.GaussianDenoiser

    @property
    def process(self):
        return self.inner.process

    def start(self, x):
        return 0 * x, jnp.zeros((), int)

    def __call__(self, x, t, s=None):
        raise ValueError("no memory")

    def with_memory(self, memory, x, t):
        estimate = self.inner(x, t)
        # A particle that has the memory of another one goes astray.
        return jax.tree.map(lambda e: e + (memory[1] > 0) * (memory[0] - x) * 0.1, estimate), (x, memory[1] + 1)


def test_the_memory_of_a_denoiser_moves_with_its_particle():
    """Without noise, the paths are those of `sample`, and copies end where their origin ends."""
    denoiser, x, tableau = _case(solvers.ddpm)
    x, quiet = x[:64], dataclasses.replace(tableau, noise=0 * tableau.noise)
    got = run(KEY, Counting(denoiser), x, quiet, reward, scale=100.0, potential="difference", populations=1)
    alone = jax.jit(jd.sample)(KEY, Counting(denoiser), x, quiet)
    away = np.abs(np.asarray(got.x) - np.asarray(alone)[:, 0])
    assert away.min(axis=1).max() < 1e-5
    assert len(np.unique(away.argmin(axis=1))) < 32  # many are copies


DENOISER, X, TABLEAU = _case(solvers.ddpm)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: steer(KEY, DENOISER, X, solvers.heun(PROCESS, 5), reward), ValueError, "tableau.*solvers that draw noise"),
        (lambda: steer(KEY, DENOISER, X, TABLEAU, reward, potential="mean"), ValueError, "potential = 'mean'"),
        (lambda: steer(KEY, DENOISER, X, TABLEAU, 1.0), TypeError, r"reward = 1\.0"),
        (lambda: steer(KEY, DENOISER, X, TABLEAU, jnp.sum), ValueError, r"reward\(x0\)\.shape = \(\)"),
        (lambda: steer(KEY, DENOISER, X, TABLEAU, reward, populations=7), ValueError, "populations = 7"),
    ],
)  # fmt: skip
def test_wrong_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()
