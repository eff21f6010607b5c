"""Twisted sequential Monte Carlo: exact samples of a posterior, by particles that are led by guidance."""

import dataclasses
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree

from jaxdiff import loops, trees
from jaxdiff.arithmetic import quotient
from jaxdiff.checks import message, require
from jaxdiff.denoisers import Denoiser, check_denoiser
from jaxdiff.jitted import as_pytree, jitted
from jaxdiff.parametrizations import Estimate
from jaxdiff.posterior.observations import check_std, difference, seen
from jaxdiff.posterior.operators.operator import Operator
from jaxdiff.processes import Process, same_process
from jaxdiff.sampling import particles as weighted
from jaxdiff.sampling.particles import Particles
from jaxdiff.solvers.tableau import Tableau


class Twist(Protocol):
    """A guess of `log p(y | x_t)`, made of the estimate of the data. Without noise it is `log p(y | x0)` itself."""

    def __call__(self, x0: PyTree, t: Any) -> Float[Array, " batch"]:
        """The guess for each example, from an estimate x0 at the time t; up to a constant that t does not change."""


@trees.register
@dataclasses.dataclass(frozen=True)
class GaussianTwist:
    """The twist of an observation with normal noise. `gaussian_twist` makes it."""

    process: Process
    operator: Operator
    observation: PyTree
    std: Float[Array, "*batch"]

    def __call__(self, x0: PyTree, t: Any) -> Float[Array, " batch"]:
        t = jnp.asarray(t)
        alpha, sigma = self.process.alpha(t), self.process.sigma(t)
        precision = alpha**2 / ((alpha * self.std) ** 2 + sigma**2)
        missed = difference(self.observation, self.operator(x0))
        return -precision / 2 * trees.inner(missed, missed)


def gaussian_twist(process: Process, operator: Operator, observation: PyTree, std: Any) -> GaussianTwist:
    """The twist of an observation `y = A(x0) + std z`:

        log p(y | x_t) ~ -|y - A(x0_hat)|^2 / (2 (std^2 + sigma^2/alpha^2))

    Wu et al. 2023 (arXiv 2306.17775), section 3.3. The constant `-m/2 log(2 pi std^2)` of an observation of m numbers
    is left out. The evidence of the particles therefore lacks it.

    Args:
      process: the process of the denoiser.
      operator: A, a function of data `[batch, *event]`, differentiable: an operator of `posterior.operators`, or any
        function. A plain function is static.
      observation: y: leaves of the shapes of `operator(x)`, or with one row for all examples.
      std: the standard deviation of the noise of y, in the units of y: a number, or `[batch]`, above 0. It is a leaf.

    Raises:
      TypeError: `process` is not a process, or `operator` is not callable.
      ValueError: `std` is not above 0, or has more than one axis.
    """
    require(isinstance(process, Process), "process", process, "processes, such as vp_linear()", TypeError)
    return GaussianTwist(process, as_pytree(operator), seen(operator, observation), check_std(std))


def twisted_smc(
    key: Key[Array, "*populations"],
    denoiser: Denoiser,
    x: PyTree,
    tableau: Tableau,
    twist: Twist,
    *,
    populations: int = 1,
    resample_below: Any = 0.5,
) -> Particles:
    """Draws weighted samples of a posterior `p(x0 | y) ~ p(x0) p(y | x0)`.

        twist = jd.posterior.gaussian_twist(process, operator, y, std=0.1)
        particles = jd.posterior.twisted_smc(key, denoiser, noise, jd.solvers.ddpm(process, times), twist)

    A particle moves as the sampler moves, with the estimate `x0_hat + sigma^2/alpha grad log p(y | x_t)` of guidance by
    the twist `log p(y | x_t)`. Its weight makes up for the difference between the guided and the plain step, and for
    the twist:

        log w <- log w + log p(x_s | x_t)/q(x_s | x_t, y) + log p(y | x_s) - log p(y | x_t)

    The weighted particles follow p(x0) p(y | x0), for the prior p that the sampler itself draws from, as their number
    grows, whatever the twist is. A better twist makes their weights more equal. The weights are kept between
    resamplings. Wu et al. 2023 (Twisted Diffusion Sampler, arXiv 2306.17775), algorithm 1.

    Each step evaluates the denoiser once, with its gradient. Steps that draw no noise, such as a last step to no noise,
    are those of the sampler. The state is float32 or wider.

    Args:
      key: one key, or one key per population.
      denoiser: see `jaxdiff.denoisers`.
      x: the noise to start from, at `tableau.times[0]`: leaves `[populations * particles, *event]`.
      tableau: a tableau of first order that draws noise: from `ddpm`, `ddim(eta=...)`, `euler_maruyama` or
        `reverse_diffusion`.
      twist: a function `(x0, t) -> [batch]`, differentiable in x0, such as the result of `gaussian_twist`. A plain
        function is static; the numbers of a registered dataclass are traced.
      populations: the number of populations of particles in the batch, which do not interact. Static.
      resample_below: the effective sample size below which a population is resampled, as a fraction of its particles.
        It may be traced.

    Returns:
      Weighted particles (see `sampling.particles`); `sampling.equally_weighted` makes samples of equal weight of them.
      `log_evidence` is the logarithm of an unbiased estimate of `p(y)`, up to the constant of the twist.

    Raises:
      TypeError: an argument of the wrong type.
      ValueError: arguments that do not fit each other, a tableau of another kind, or a twist of another shape.
    """
    check_denoiser(denoiser)
    if not isinstance(tableau, Tableau):
        raise TypeError(message("tableau", tableau, "the tableaux that solvers return"))
    shape = tableau.points, tableau.history_length, tableau.noise.shape[-1]
    allowed = "(1, 1, 1), the tableaux of solvers such as ddpm"
    require(shape == (1, 1, 1), "(points, history, noise) of tableau", shape, allowed)
    same = same_process(denoiser.process, tableau.process)
    require(same, "denoiser.process", denoiser.process, f"the process of the tableau, {tableau.process}")
    require(callable(twist), "twist", twist, "functions (x0, t) -> [batch]", TypeError)
    key = weighted.population_keys(key, populations)
    weighted.check_resampling(resample_below)
    trees.check_floating("x", x)
    x = jax.tree.map(lambda leaf: jnp.asarray(leaf, trees.wide(leaf)), x)
    return _run(key, denoiser, weighted.start(x, populations), tableau, as_pytree(twist), resample_below)


@jitted
def _run(
    key: Key[Array, "*populations"],
    denoiser: Denoiser,
    particles: Particles,
    tableau: Tableau,
    twist: Twist,
    resample_below: Any,
) -> Particles:
    process = denoiser.process
    for_noise, for_copies = trees.split(key, 2)
    for_noise = weighted.particle_keys(for_noise, particles)
    times, rows, noise, target = map(
        jnp.asarray, (tableau.times, tableau.state[1:, 0], tableau.noise[1:, 0, 0], tableau.history_target)
    )
    x = particles.x
    batch = (trees.batch_size(x),)

    def log_twist(x0: PyTree, t: Any) -> Float[Array, " batch"]:
        value = twist(x0, t)
        require(value.shape == batch, "twist(x0, t).shape", value.shape, f"{batch}, a number per example")
        return value

    def step(particles: Particles, i: Any) -> tuple[Particles, None]:
        x, owed = particles.x
        t, c, (p, q) = times[i], noise[i], target[i]

        def total(x: PyTree) -> Any:
            estimate = denoiser(x, t)
            trees.check_alike("the denoiser's estimate", estimate, Estimate(x, x))
            value = log_twist(estimate.x0, t)
            return jnp.sum(value), (estimate, value)  # no example sees another one

        slope, (estimate, value) = jax.grad(total, has_aux=True)(x)
        particles = weighted.weigh(particles, value + owed)
        particles = dataclasses.replace(particles, x=(x, estimate, slope, value))
        particles = weighted.resample(trees.fold_in(for_copies, i), particles, resample_below)
        x, estimate, slope, value = particles.x

        # Guidance adds sigma^2/alpha times the slope to x0, and takes sigma times the slope from eps. In units of the
        # step's noise its move is `away`. Without signal the slope is that of a constant. Without noise nothing moves.
        alpha, sigma = process.alpha(t), process.sigma(t)
        led = rows[i, 1] * (p * sigma**2 / jnp.where(alpha > 0, alpha, jnp.inf) - q * sigma)
        away = trees.lincomb((quotient(led, c),), (slope,))
        z = trees.normal_like(trees.fold_in(for_noise, i), x)
        moved = trees.lincomb(
            (rows[i, 0], rows[i, 1] * p, rows[i, 1] * q, c, c), (x, estimate.x0, estimate.eps, away, z)
        )
        ratio = -(trees.inner(away, away) / 2 + trees.inner(away, z))
        owed = (ratio - value).astype(owed.dtype)
        return dataclasses.replace(particles, x=(trees.cast_like(moved, x), owed)), None

    particles = dataclasses.replace(particles, x=(x, jnp.zeros(batch, particles.log_weights.dtype)))
    particles, _ = loops.scan(step, particles, jnp.arange(len(tableau)))
    x, owed = particles.x
    particles = weighted.weigh(particles, log_twist(x, jnp.asarray(process.t_clean)) + owed)
    return dataclasses.replace(particles, x=x)
