"""Feynman-Kac correctors: samples of products and powers of distributions, exact by weights."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PyTree

from jaxdiff import loops, trees
from jaxdiff.arithmetic import namespace, root
from jaxdiff.checks import require
from jaxdiff.denoisers import Denoiser, check_denoiser
from jaxdiff.jitted import jitted
from jaxdiff.parametrizations import Estimate
from jaxdiff.processes import same_process
from jaxdiff.sampling import particles as weighted
from jaxdiff.sampling.particles import Particles
from jaxdiff.solvers.tableau import Grid, check_arguments, check_signal


def feynman_kac(
    key: Key[Array, "*populations"],
    denoisers: Sequence[Denoiser],
    x: PyTree,
    times: Grid,
    *,
    exponents: Sequence[Any] | Float[Array, " n"],
    data_std: Any = 0.5,
    populations: int = 1,
    resample_below: Any = 0.5,
) -> Particles:
    """Draws weighted samples of a product of powers of distributions, `p(x) ~ prod_i p_i(x)^a_i`.

        particles = jd.sampling.feynman_kac(key, (uncond, cond), noise, times, exponents=(1 - w, w))

    The exponents `(beta,)` anneal one distribution, as an inverse temperature does. `(1, 1)` is the product of two.
    `(1 - w, w)` is the distribution that classifier-free guidance of scale w is meant to sample, and that guided
    samplers without weights miss.

    At every noise level the distribution is the product of the powers of the noisy distributions. Let s_i be the scores
    in the variable `y = x/alpha` with the noise `rho = sigma/alpha`, `S = sum_i a_i s_i` and `A = sum_i a_i`. A step of
    the reverse SDE (Euler-Maruyama) and its weight are

        y <- y + dV (S + b y) + sqrt(dV (1 - c)) z
        log w <- log w + dV/2 (|S|^2 - sum_i a_i |s_i|^2) + dV b <y, S>

        dV = rho_t^2 - rho_s^2        V = rho_t^2 + data_std^2        b = (A - 1)/(2 V)        c = (A + 1)^2/(4 A) dV/V

    Skreta et al. 2025 (arXiv 2503.02819), propositions 3.1 to 3.3, with `b = c = 0`. The weights are exact for any b
    and c in the limit of short steps; 100 steps or more are usual. With the b and c above, each step is exact for
    distributions that are all N(0, data_std^2), and their weights do not vary. With b = 0 the weights vary all the way
    from the noise, unless A is 1. A step to no noise adds none.

    Each step evaluates every denoiser once, in one scan. The state is float32 or wider.

    Args:
      key: one key, or one key per population.
      denoisers: n denoisers of one process.
      x: the noise to start from, at `times[0]`: leaves `[populations * particles, *event]`, from `prior_sample`. It is
        divided by the root of the sum of the exponents: there, the product of the powers is nearly that normal
        distribution.
      times: a grid `[steps + 1]`, decreasing, that begins with some signal; or a number of steps.
      exponents: the exponents a_i, n numbers with a sum above 0. They may be traced.
      data_std: the standard deviation of the data, roughly. It may be traced. Infinity gives the published steps.
      populations: the number of populations of particles in the batch, which do not interact. Static.
      resample_below: the effective sample size below which a population is resampled before its next step, as a
        fraction of its particles. It may be traced.

    Returns:
      Weighted particles (see `sampling.particles`). `equally_weighted` makes samples of equal weight of them.
      `log_evidence` estimates the logarithm of the integral over y of the product at the end, over that at the start.

    Raises:
      TypeError: an argument of the wrong type.
      ValueError: the denoisers have different processes, the grid begins without signal, the exponents are not n
        numbers with a sum above 0, or arguments that do not fit each other.
    """
    denoisers = tuple(denoisers)
    require(denoisers, "denoisers", denoisers, "at least one denoiser")
    for denoiser in denoisers:
        check_denoiser(denoiser)
        same = same_process(denoiser.process, denoisers[0].process)
        require(same, "process of denoisers", denoiser.process, f"the same for all, {denoisers[0].process}")
    key = weighted.population_keys(key, populations)
    weighted.check_resampling(resample_below)
    trees.check_floating("x", x)
    x = jax.tree.map(lambda leaf: jnp.asarray(leaf, trees.wide(leaf)), x)
    powers = jnp.stack([jnp.asarray(a, float) for a in exponents])
    allowed = f"({len(denoisers)},), a number per denoiser"
    require(powers.shape == (len(denoisers),), "exponents.shape", powers.shape, allowed)
    require(trees.traced(powers) or np.sum(powers) > 0, "sum of exponents", np.sum(powers), "numbers above 0")

    process, times = check_arguments(denoisers[0].process, times, signal=True)
    check_signal(process, times, "a grid such as grids.karras(process, steps)")
    xp, alpha = namespace(times), process.alpha(times)
    rho = process.sigma(times) / alpha
    growth = rho[:-1] ** 2 - rho[1:] ** 2
    noise = xp.where(rho[1:] > 0, xp.sqrt(growth), 0.0)
    table = (times[:-1], alpha[:-1], rho[:-1], growth, noise)
    ends = (alpha[0], alpha[-1], rho[0], rho[-1])
    return _run(key, denoisers, weighted.start(x, populations), powers, table, ends, data_std, resample_below)


@jitted
def _run(
    key: Key[Array, "*populations"],
    denoisers: tuple[Denoiser, ...],
    particles: Particles,
    powers: Float[Array, " n"],
    table: tuple[Any, ...],
    ends: tuple[Any, ...],
    data_std: Any,
    resample_below: Any,
) -> Particles:
    for_noise, for_copies = trees.split(key, 2)
    for_noise = weighted.particle_keys(for_noise, particles)
    columns, ends = tuple(map(jnp.asarray, table)), tuple(map(jnp.asarray, ends))
    total = jnp.sum(powers)

    def step(particles: Particles, i: Any) -> tuple[Particles, None]:
        t, alpha, rho, growth, noise = (column[i] for column in columns)
        particles = weighted.resample(trees.fold_in(for_copies, i), particles, resample_below)
        y = particles.x
        x = trees.lincomb((alpha,), (y,))
        estimates = [denoiser(x, t) for denoiser in denoisers]
        trees.check_alike("the denoisers' estimates", estimates, [Estimate(x, x)] * len(estimates))
        eps = [estimate.eps for estimate in estimates]
        z = trees.normal_like(trees.fold_in(for_noise, i), y)
        # The scores are -eps/rho.
        weighted_eps = trees.lincomb(list(powers), eps)
        share = growth / (rho**2 + data_std**2)
        pull = (total - 1) / 2 * share
        noise *= root(1 - (total + 1) ** 2 / (4 * total) * share)
        moved = trees.lincomb((1 + pull, -growth / rho, noise), (y, weighted_eps, z))
        log_factor = growth / rho**2 / 2 * _excess(eps, powers) - pull / rho * trees.inner(y, weighted_eps)
        particles = dataclasses.replace(particles, x=trees.cast_like(moved, y))
        return weighted.weigh(particles, log_factor), None

    begin = trees.lincomb((1 / (ends[0] * jnp.sqrt(total)),), (particles.x,))
    particles = dataclasses.replace(particles, x=trees.cast_like(begin, particles.x))
    particles, _ = loops.scan(step, particles, jnp.arange(len(columns[0])))
    y = particles.x
    # The linear part of the drift spreads the particles; its divergence is the same for all.
    spread = jnp.log((ends[2] ** 2 + data_std**2) / (ends[3] ** 2 + data_std**2))
    spread = jnp.where(jnp.isfinite(data_std), spread, 0) * (total - 1) / 2 * trees.event_size(y)
    evidence = (particles.log_evidence + spread).astype(particles.log_evidence.dtype)
    x = trees.cast_like(trees.lincomb((ends[1],), (y,)), y)
    return dataclasses.replace(particles, x=x, log_evidence=evidence)


def _excess(eps: list[PyTree], powers: Float[Array, " n"]) -> Float[Array, " batch"]:
    """Returns `|sum_i a_i e_i|^2 - sum_i a_i |e_i|^2`, of each example.

    It is written in the differences from the first noise e. With A the sum of the exponents, and D that of `a_i d_i`,

        A (A - 1) |e|^2 + 2 (A - 1) <e, D> + |D|^2 - sum_i a_i |d_i|^2        d_i = e_i - e

    In guidance A is 1. The small difference of two large squares would be lost to rounding.
    """
    first, *others = eps
    total = jnp.sum(powers)
    excess = total * (total - 1) * trees.inner(first, first)
    if others:
        away = [trees.lincomb((1.0, -1.0), (other, first)) for other in others]
        sum_of = trees.lincomb(list(powers[1:]), away)
        excess += 2 * (total - 1) * trees.inner(first, sum_of) + trees.inner(sum_of, sum_of)
        excess -= sum(power * trees.inner(one, one) for power, one in zip(powers[1:], away, strict=True))
    return excess
