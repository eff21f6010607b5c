"""Feynman-Kac steering: samples tilted by a reward, without gradients."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree

from jaxdiff import loops, trees
from jaxdiff.checks import one_of, require
from jaxdiff.denoisers import Denoiser, DenoiserWithMemory
from jaxdiff.jitted import as_pytree, jitted
from jaxdiff.sampling import particles as weighted
from jaxdiff.sampling.particles import Particles
from jaxdiff.sampling.scan import State, finish, scan_rows, start
from jaxdiff.solvers.tableau import Tableau

Potential = Literal["difference", "max", "sum"]


def steer(
    key: Key[Array, "*populations"],
    denoiser: Denoiser,
    x: PyTree,
    tableau: Tableau,
    reward: Callable[[PyTree], Float[Array, " batch"]],
    *,
    scale: Any = 1.0,
    potential: Potential = "difference",
    populations: int = 1,
    resample_below: Any = 0.5,
) -> Particles:
    """Draws weighted samples of a tilted distribution `p(x0) exp(scale * reward(x0))`.

        particles = jd.posterior.steer(key, denoiser, noise, tableau, reward, scale=5.0)

    The particles move as in `sample`. At every evaluation, the reward r of the estimate of the data multiplies the
    weight of a particle by a potential:

        "difference"    exp(scale (r_t - r_before))         the gain since the last evaluation
        "max"           exp(scale max(r_T, ..., r_t))       the best reward so far
        "sum"           exp(scale (r_T + ... + r_t))        the sum of all rewards so far

    The samples themselves are weighed by `exp(scale reward(x0))` over the product of the potentials of their path. The
    weighted particles therefore follow the tilted distribution, for the prior that the sampler draws from, with any
    potential. "max" and "sum" favour particles with a high reward early, at the price of more unequal weights. The
    weights are kept between resamplings. Singhal et al. 2025 (Feynman-Kac steering, arXiv 2501.06848), section 4.

    The evaluations are those of `sample`. The reward is evaluated once more often than the denoiser; it needs no
    derivatives.

    Args:
      key: one key, or one key per population.
      denoiser: see `jaxdiff.denoisers`.
      x: the noise to start from, at `tableau.times[0]`: leaves `[populations * particles, *event]`.
      tableau: a tableau of any solver that draws noise, so that copies of a particle part: `ddpm`,
        `euler_ancestral`, `dpm_solver_pp(tau=1)`, ...
      reward: a function of data `[batch, *event]` to `[batch]`. A plain function is static; the numbers of a
        registered dataclass are traced.
      scale: the strength of the tilt; it may be traced.
      potential: "difference", "max" or "sum". Static.
      populations: the number of populations of particles in the batch, which do not interact. Static.
      resample_below: the effective sample size below which a population is resampled, as a fraction of its particles.
        It may be traced.

    Returns:
      Weighted particles (see `sampling.particles`); `sampling.equally_weighted` makes samples of equal weight of them.
      `log_evidence` is the logarithm of an unbiased estimate of the mean of `exp(scale * reward(x0))`.

    Raises:
      TypeError: an argument of the wrong type.
      ValueError: arguments that do not fit each other, a tableau without noise, or a reward of another shape.
    """
    one_of("potential", potential, ("difference", "max", "sum"))
    require(callable(reward), "reward", reward, "functions x0 -> [batch]", TypeError)
    weighted.check_resampling(resample_below)
    key = weighted.population_keys(key, populations)
    particles = weighted.start(x, populations)
    for_noise, for_copies = trees.split(key, 2)
    state = start(weighted.particle_keys(for_noise, particles), x, tableau)
    require(
        tableau.noise.shape[-1], "noise of tableau", "none", "the tableaux of solvers that draw noise, such as ddpm"
    )
    particles = dataclasses.replace(particles, x=None)
    return _run(
        for_copies, denoiser, state, particles, tableau, as_pytree(reward), scale, resample_below, potential=potential
    )


@jitted
def _run(
    key: Key[Array, "*populations"],
    denoiser: Denoiser,
    state: State,
    particles: Particles,
    tableau: Tableau,
    reward: Callable[[PyTree], Float[Array, " batch"]],
    scale: Any,
    resample_below: Any,
    *,
    potential: Potential,
) -> Particles:
    batch, dtype = (trees.batch_size(state.points[-1]),), particles.log_weights.dtype

    def scaled(x0: PyTree) -> Float[Array, " batch"]:
        value = reward(x0)
        require(value.shape == batch, "reward(x0).shape", value.shape, f"{batch}, a number per example")
        return (scale * value).astype(dtype)

    def step(carry: tuple[State, Particles], i: Any) -> tuple[tuple[State, Particles], None]:
        state, particles = carry
        state, (_, estimate) = scan_rows(denoiser, state, _row(tableau, i), trajectory=True)
        now = scaled(jax.tree.map(lambda leaf: leaf[0], estimate.x0))
        kept, spent = particles.x  # the last, best or summed reward, and the logarithm of all potentials so far
        if potential == "difference":
            kept, log_potential = now, now - kept
        else:
            kept = jnp.maximum(kept, now) if potential == "max" else kept + now
            log_potential = kept
        particles = weighted.weigh(particles, log_potential)
        moving = (state.points, state.history, state.memory, kept, spent + log_potential)
        particles = dataclasses.replace(particles, x=moving)
        particles = weighted.resample(trees.fold_in(key, i), particles, resample_below)
        points, history, memory, *others = particles.x
        state = dataclasses.replace(state, points=points, history=history, memory=memory)
        return (state, dataclasses.replace(particles, x=tuple(others))), None

    if isinstance(denoiser, DenoiserWithMemory):
        state = dataclasses.replace(state, memory=denoiser.start(state.points[-1]))
    zero = jnp.zeros(batch, dtype)
    begin = (jnp.full(batch, -jnp.inf, dtype) if potential == "max" else zero, zero)
    carry = state, dataclasses.replace(particles, x=begin)
    (state, particles), _ = loops.scan(step, carry, jnp.arange(len(tableau)))
    x = finish(state, tableau)
    particles = weighted.weigh(particles, scaled(x) - particles.x[1])
    return dataclasses.replace(particles, x=x)


def _row(tableau: Tableau, i: Any) -> Tableau:
    """One evaluation of a tableau, as `tableau[i:i + 1]` is for a known i."""

    def cut(column: Any, size: int) -> Array:
        return jax.lax.dynamic_slice_in_dim(jnp.asarray(column), i, size)

    return dataclasses.replace(
        tableau,
        times=cut(tableau.times, 1),
        state=cut(tableau.state, 2),
        noise=cut(tableau.noise, 2),
        history_target=cut(tableau.history_target, 1),
    )
