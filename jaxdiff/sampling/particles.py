"""Weighted particles: examples whose weights say how probable they are, and their resampling.

A sampler with particles draws from one distribution and weighs the draws, so that the weighted draws follow another
distribution. When few particles carry most of the weight, resampling replaces the light ones by copies of the heavy
ones. Del Moral, Doucet & Jasra 2006 (Sequential Monte Carlo samplers, section 3.2).

Resampling couples the particles of a population: what becomes of one depends on the weights of all. One batch may hold
several populations, which know nothing of each other. Their particles are neighbours in the batch: of `populations * n`
examples, the first n are the first population. Random keys are one key, or one key per population. One key per example
is refused, since no example could be drawn alone.

Everything here is a few array operations on the whole batch. Under `jit` the batch may therefore be spread over
devices: weights are summed over all of them.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PyTree

from jaxdiff import checks, trees
from jaxdiff.arithmetic import quotient
from jaxdiff.jitted import jitted


@trees.register
@dataclasses.dataclass(frozen=True)
class Particles:
    """Weighted examples. The weighted mean of a function of `x` estimates its mean under the distribution sought.

    Attributes:
      x: leaves `[populations * particles, *event]`.
      log_weights: the logarithms of the weights. The weights of each population have a mean of 1.
      log_evidence: the logarithm of an unbiased estimate of the normalising constant, for each population: the mean of
        all weights before they were divided by it.
    """

    x: PyTree
    log_weights: Float[Array, "populations particles"]
    log_evidence: Float[Array, " populations"]

    @property
    def weights(self) -> Float[Array, "populations particles"]:
        """The weights, with a sum of 1 in each population; all 0 where no particle is possible."""
        return _normalised(self.log_weights)

    @property
    def effective_size(self) -> Float[Array, " populations"]:
        """The effective sample size `(sum w)^2 / sum w^2` of each population, from 1 to the number of particles."""
        return effective_size(self.log_weights)


def effective_size(log_weights: Float[Array, "populations particles"]) -> Float[Array, " populations"]:
    """The effective sample size `(sum w)^2 / sum w^2`: the number of equal weights that are worth as much.

    Kong, Liu & Wong 1994. It is 0 for a population without any possible particle.
    """
    squares = jnp.sum(_normalised(log_weights) ** 2, axis=-1)
    return quotient(1.0, squares)


def start(x: PyTree, populations: int = 1) -> Particles:
    """Particles of equal weight.

    Args:
      x: leaves `[populations * particles, *event]`.
      populations: the number of populations.

    Raises:
      ValueError: `populations` is not an integer of at least 1 that divides the batch.
    """
    checks.integer("populations", populations)
    size = trees.batch_size(x)
    checks.require(size % populations == 0, "populations", populations, f"divisors of {size}, the number of examples")
    dtype = trees.wide(*jax.tree.leaves(x))
    return Particles(x, jnp.zeros((populations, size // populations), dtype), jnp.zeros(populations, dtype))


def weigh(particles: Particles, log_factors: Float[Array, " batch"]) -> Particles:
    """Multiplies the weights by factors, which are given by their logarithms. NaN counts as a factor of 0."""
    log_factors = jnp.where(jnp.isnan(log_factors), -jnp.inf, log_factors)
    grown = particles.log_weights + log_factors.reshape(particles.log_weights.shape).astype(particles.log_weights.dtype)
    mean = jax.nn.logsumexp(grown, axis=1) - jnp.log(jnp.asarray(grown.shape[1], grown.dtype))
    # Where no particle is possible any more, the weights stay 0, and so does the evidence.
    shift = jnp.where(jnp.isfinite(mean), mean, 0)
    return dataclasses.replace(
        particles, log_weights=grown - shift[:, None], log_evidence=particles.log_evidence + mean
    )


def systematic(
    key: Key[Array, "*populations"], log_weights: Float[Array, "populations particles"]
) -> Int[Array, "populations particles"]:
    """The places, within its population, of the particles that the new particles copy, by systematic resampling.

    Of n particles, one with the normalised weight w is copied `floor(n w)` or `ceil(n w)` times, and n w times on
    average. One uniform number per population decides. Carpenter, Clifford & Fearnhead 1999; Douc & Cappe 2005
    (cs/0507025), section 2.4. A population without any possible particle is copied as it is.

    Args:
      key: one key, or one key per population.
    """
    count, n = log_weights.shape
    dtype = log_weights.dtype
    uniform = trees.uniform(key, count, dtype)
    total = jnp.cumsum(_normalised(log_weights), axis=1)
    alive = total[:, -1] > 0
    total = total / jnp.where(alive, total[:, -1], 1)[:, None]
    # The last place is below 1 in exact arithmetic, and is kept below 1 here, so that no particle of weight 0 is taken.
    places = jnp.minimum((jnp.arange(n) + uniform[:, None]) / n, 1 - jnp.finfo(dtype).epsneg)
    found = jax.vmap(lambda edges, at: jnp.searchsorted(edges, at, side="right"))(total, places)
    return jnp.where(alive[:, None], found, jnp.arange(n))


def resample(key: Key[Array, "*populations"], particles: Particles, below: Any = 1.0) -> Particles:
    """Resamples the populations whose effective sample size is below the fraction `below` of their particles.

    The particles of such a population get equal weights. The others keep theirs. A leaf of `x` without a row per
    particle, such as a counter, stays as it is.

    Args:
      key: one key, or one key per population.
      below: a number from 0 (never) to 1; it may be traced.
    """
    count, n = particles.log_weights.shape
    due = particles.effective_size < below * n
    due &= jnp.max(particles.log_weights, axis=1) > -jnp.inf

    def copied(particles: Particles) -> Particles:
        chosen = jnp.where(due[:, None], systematic(key, particles.log_weights), jnp.arange(n))
        rows = (chosen + n * jnp.arange(count)[:, None]).reshape(-1)
        return dataclasses.replace(
            particles,
            x=jax.tree.map(
                lambda leaf: jnp.take(leaf, rows, axis=0) if leaf.shape[:1] == rows.shape else leaf, particles.x
            ),
            log_weights=jnp.where(due[:, None], 0, particles.log_weights),
        )

    # Copying moves the whole batch, between devices too. The steps at which nothing is due are spared this.
    return jax.lax.cond(jnp.any(due), copied, lambda particles: particles, particles)


def equally_weighted(key: Key[Array, "*populations"], particles: Particles) -> PyTree:
    """Draws examples of equal weight from weighted ones, by one systematic resampling of every population.

        samples = jd.sampling.equally_weighted(key, particles)

    Weighted means of the particles themselves have a smaller variance than means of these copies.

    Args:
      key: one key, or one key per population.
      particles: the result of a sampler with particles.

    Returns:
      Examples of the shape of `particles.x`, some of them equal.

    Raises:
      TypeError: `key` is not a JAX random key, or `particles` are no particles.
      ValueError: `key` has another number of keys.
    """
    checks.require(isinstance(particles, Particles), "particles", particles, "the results of samplers", TypeError)
    return _equally_weighted(population_keys(key, len(particles.log_weights)), particles)


@jitted
def _equally_weighted(key: Key[Array, "*populations"], particles: Particles) -> PyTree:
    return resample(key, particles, jnp.inf).x


def population_keys(key: Any, populations: int) -> Key[Array, "*populations"]:
    """Returns one key, or one key per population.

    Raises:
      TypeError: `key` is not a JAX random key.
      ValueError: `key` has another number of keys.
    """
    key = trees.as_key(key)
    allowed = f"() and ({populations},), one key per population: its particles depend on each other"
    checks.require(key.shape in ((), (populations,)), "key.shape", key.shape, allowed)
    return key


def particle_keys(key: Key[Array, "*populations"], particles: Particles) -> Key[Array, "*batch"]:
    """The keys with which particles draw numbers of their own: one key, or one key per particle."""
    if not key.ndim:
        return key
    numbers = jnp.arange(particles.log_weights.shape[1])
    return jax.vmap(trees.each, (0, None))(key, numbers).reshape(-1)


def check_resampling(resample_below: Any) -> None:
    """Raises a ValueError if a known `resample_below` is not a number from 0 to 1."""
    if not trees.traced(resample_below):
        checks.fraction("resample_below", resample_below)


def _normalised(log_weights: Float[Array, "populations particles"]) -> Float[Array, "populations particles"]:
    highest = jnp.max(log_weights, axis=-1, keepdims=True)
    weights = jnp.exp(log_weights - jnp.where(jnp.isfinite(highest), highest, 0))
    total = jnp.sum(weights, axis=-1, keepdims=True)
    return weights / jnp.where(total > 0, total, 1)
