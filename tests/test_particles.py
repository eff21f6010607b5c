"""Weights and resampling of particles, against their definitions."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from devices import ROOT, forced

import jaxdiff as jd
from jaxdiff.sampling import particles as weighted

KEY = jax.random.key(0)
WEIGHTS = np.array([[0.5, 0.02, 0.0, 0.2, 0.28, 0.0], [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]])
systematic = jax.jit(jax.vmap(weighted.systematic, (0, None)))
resample = jax.jit(weighted.resample)


def _log(weights):
    with np.errstate(divide="ignore"):
        return jnp.log(jnp.asarray(weights, jnp.float32))


def test_systematic_resampling_copies_by_weight():
    """Every particle is copied `floor(n w)` or `ceil(n w)` times, and n w times on average."""
    count = 4000
    chosen = np.asarray(systematic(jax.random.split(KEY, count), _log(WEIGHTS)))
    copies = (chosen[..., None] == np.arange(6)).sum(axis=2)
    wanted = 6 * WEIGHTS / WEIGHTS.sum(axis=1, keepdims=True)
    assert (copies >= np.floor(wanted - 1e-5)).all()
    assert (copies <= np.ceil(wanted + 1e-5)).all()
    np.testing.assert_allclose(copies.mean(axis=0), wanted, atol=5 * 0.5 / np.sqrt(count))


def test_a_particle_of_weight_0_is_never_copied():
    """Among so many particles, float32 rounds the last place of all up to 1."""
    log_weights = jnp.where(jnp.arange(100_000) < 50_000, 0.0, -jnp.inf)[None]
    assert np.asarray(systematic(jax.random.split(KEY, 20), log_weights)).max() == 49_999


def test_effective_size_and_weights():
    """`(sum w)^2 / sum w^2`, whatever factor the weights have in common; 0 where nothing is possible."""
    wanted = WEIGHTS.sum(axis=1) ** 2 / (WEIGHTS**2).sum(axis=1)
    np.testing.assert_allclose(weighted.effective_size(_log(WEIGHTS)), wanted, rtol=1e-6)
    np.testing.assert_allclose(weighted.effective_size(_log(WEIGHTS) - 2000), wanted, rtol=1e-4)
    nothing = jnp.full((1, 6), -jnp.inf)
    np.testing.assert_array_equal(weighted.effective_size(nothing), 0)
    np.testing.assert_array_equal(weighted.systematic(KEY, nothing), np.arange(6)[None])


def test_factors_accumulate_and_leave_their_mean_as_evidence():
    """The evidence is the mean of the products of all factors, and a factor that is no number counts as 0."""
    first, second = np.array([1.0, 2.0, 3.0, 4.0]), np.array([2.0, np.nan, 1.0, 0.5])
    particles = weighted.weigh(weighted.start(jnp.zeros((4, 1))), _log(first))
    particles = weighted.weigh(particles, _log(second))
    products = first * np.nan_to_num(second)
    np.testing.assert_allclose(particles.log_evidence, np.log(products.mean()), rtol=1e-5)
    np.testing.assert_allclose(particles.weights[0], products / products.sum(), rtol=1e-5)
    impossible = weighted.weigh(particles, jnp.full(4, -jnp.inf))
    assert impossible.log_evidence[0] == -np.inf
    np.testing.assert_array_equal(impossible.weights, 0)


def test_only_populations_below_the_threshold_are_resampled():
    """All leaves move together, the others stay as they are, and populations do not meet."""
    x = {"a": jnp.arange(12.0)[:, None], "b": jnp.arange(12)}
    particles = weighted.weigh(weighted.start(x, 2), _log(WEIGHTS).reshape(-1))
    for below in (0.0, 0.4):  # an effective size of 2.7 of 6
        kept = resample(KEY, particles, below)
        np.testing.assert_array_equal(kept.x["b"], x["b"])
        np.testing.assert_array_equal(kept.log_weights, particles.log_weights)
    got = resample(KEY, particles, 0.5)
    np.testing.assert_array_equal(got.x["a"][:, 0], got.x["b"])
    np.testing.assert_array_equal(got.x["b"][6:], np.arange(6, 12))
    assert set(np.asarray(got.x["b"][:6])) <= {0, 1, 3, 4}
    assert np.sum(np.asarray(got.x["b"][:6]) == 0) == 3
    np.testing.assert_array_equal(got.log_weights[0], 0)
    np.testing.assert_array_equal(got.log_evidence, particles.log_evidence)


def test_each_population_follows_its_key():
    keys = jax.random.split(KEY, 2)
    particles = weighted.weigh(weighted.start(jnp.arange(12), 2), _log(WEIGHTS[::-1]).reshape(-1))
    for k in range(20):
        pair = jax.random.fold_in(keys[0], k), jax.random.fold_in(keys[1], k)
        got = [np.asarray(resample(jnp.stack(two), particles, 0.9).x) for two in (pair, (keys[0], pair[1]))]
        np.testing.assert_array_equal(*got)
    single = weighted.particle_keys(keys, particles)
    assert single.shape == (12,)
    assert len(np.unique(np.asarray(jax.random.key_data(single)), axis=0)) == 12


def test_copies_of_equal_weight():
    particles = weighted.weigh(weighted.start(jnp.arange(12.0)[:, None], 2), _log(WEIGHTS).reshape(-1))
    samples = np.asarray(jax.jit(jd.sampling.equally_weighted)(KEY, particles))[:, 0]
    assert np.sum(samples == 0) == 3
    np.testing.assert_array_equal(samples[6:], np.arange(6, 12))


@pytest.mark.long
def test_particles_spread_over_devices():
    """One population on four devices has the weights, sizes and copies that it has on one."""
    program = [sys.executable, "tests/sharded_particles.py"]
    done = subprocess.run(program, cwd=ROOT, env=forced(4), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = dict(line.rsplit(": ", 1) for line in done.stdout.splitlines())
    assert found.pop("devices") == "4"
    assert set(found) == {"x", "log_weights", "log_evidence", "x of populations on devices of their own"}
    for name, difference in found.items():
        assert float(difference) < 1e-4, name


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: weighted.start(jnp.zeros((8, 1)), 3), ValueError, "populations = 3; allowed are divisors of 8"),
        (lambda: weighted.start(jnp.zeros((8, 1)), 0), ValueError, "populations = 0"),
        (lambda: weighted.population_keys(jax.random.split(KEY, 8), 2), ValueError, r"key\.shape = \(8,\).*\(2,\), one key per population"),
        (lambda: weighted.check_resampling(1.5), ValueError, r"resample_below = 1\.5"),
        (lambda: jd.sampling.equally_weighted(KEY, jnp.zeros(3)), TypeError, "particles = "),
    ],
)  # fmt: skip
def test_wrong_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()
