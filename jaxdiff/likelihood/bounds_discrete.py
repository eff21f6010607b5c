"""The variational bound in discrete time, of DDPM and iDDPM."""

from typing import Any, Literal, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree

from jaxdiff import checks, loops, trees
from jaxdiff.arithmetic import namespace
from jaxdiff.denoisers import Denoiser, VarianceDenoiser
from jaxdiff.jitted import jitted
from jaxdiff.likelihood.bounds import (
    VariationalBound,
    checked_data,
    error,
    event_sum,
    gaussian_decoder,
    prior_divergence,
    reconstruction,
)
from jaxdiff.processes import Times, corrupt
from jaxdiff.solvers.tableau import check_times


def discrete_time(
    key: Key[Array, "*batch"],
    denoiser: Denoiser,
    x: PyTree,
    times: Times,
    *,
    variance: Literal["small", "large", "learned"] = "small",
    levels: int | None = None,
    samples: int | None = None,
) -> VariationalBound:
    """A bound on `-log p(x)` by ancestral sampling over a grid.

    A step from t to s draws `x_s ~ N(mean, v)`, as in `solvers.ddpm`.

        prior = |alpha x|^2/(2 sigma^2) at times[0]
        reconstruction = -log p(x | x_t) at the end
        diffusion = sum over steps of KL(q(x_s | x_t, x) || p(x_s | x_t))
                  = sum 1/2 [f D + e^{-f D} - 1 + k e^{-f D} |(x - x0_hat)/sigma_t|^2]

        D = log(sigma_t^2/sigma_s^2)
        k = sigma_t^2 (SNR_s - SNR_t)
        log v = log v_small + f D
        v_large = sigma_t^2 - (alpha_t/alpha_s)^2 sigma_s^2
        v_small = v_large sigma_s^2/sigma_t^2, the variance of q(x_s | x_t, x)

    Sohl-Dickstein et al. 2015 (arXiv 1503.03585); Ho et al. 2020 (arXiv 2006.11239), equation 5; Nichol & Dhariwal 2021
    (iDDPM, arXiv 2102.09672), sections 2 and 3.

    If the grid ends at `t_clean`, its last step is the decoder: a Gaussian around x0_hat, discretised if there are
    levels (DDPM, equation 13). The variance `v_small` would be 0 there. As in the published code, the decoder uses
    `v_small` of the step before, for "small" and for "large". For "learned" this is the lower end, and `sigma_t^2` is
    the upper end. A grid of one step has only the upper end.

    If the grid ends with noise, its last step is like the others, and the decoder is that of `continuous_time`.

    Args:
      key: one key, or one key per example.
      denoiser: for "learned", a denoiser with `with_fraction` (see `denoisers.from_network_with_variance`).
      x: leaves `[batch, *event]`.
      times: a grid `[steps + 1]`, decreasing, as for solvers. DDPM's own is `grids.discrete(process, 1000)`.
      variance: "small" is f = 0, "large" is f = 1, and "learned" is the fraction that the network predicts.
      levels: as for `continuous_time`; 256 for pixels.
      samples: the number of steps that are drawn at random for each example, in strata, to stand for all steps but the
        last one. None sums all steps. The last step is always evaluated. The number of evaluations of the denoiser is
        `samples + 1`, or the number of steps.

    Returns:
      A `VariationalBound` in nats, `[batch]` each. `nats/(d log 2)` are bits per dimension.

    Raises:
      TypeError: an argument of the wrong type, or a denoiser that predicts no variance where one is needed.
      ValueError: an argument of the wrong value, or `times` that are not a valid grid.
    """
    x, key = checked_data(denoiser, x, levels, samples), trees.as_key(key)
    checks.one_of("variance", variance, ("small", "large", "learned"))
    good = variance != "learned" or hasattr(denoiser, "with_fraction")
    allowed = "with variance = 'learned' those that predict one, from denoisers.from_network_with_variance"
    checks.require(good, "type(denoiser)", type(denoiser).__name__, allowed, TypeError)
    host, times = check_times(denoiser.process, times)
    alpha, sigma = host.alpha(times), host.sigma(times)
    xp, clean = namespace(times), sigma[-1] <= 0
    # The numbers of a step to a clean end are not used. They are kept finite.
    left = xp.where(sigma[1:] > 0, sigma[1:], sigma[:-1])
    stretch = 2 * xp.log(sigma[:-1] / left)
    gain = (alpha[1:] * sigma[:-1] / left) ** 2 - alpha[:-1] ** 2
    # The log-variances of the decoder, whose mean is x0_hat.
    large = 2 * xp.log(sigma[-2] / alpha[-1])
    only_step = len(times) == 2
    small = large if only_step else large + xp.log1p(-((alpha[-3] * sigma[-2] / (alpha[-2] * sigma[-3])) ** 2))
    decoder = (clean, small, large, alpha[-1], left[-1])
    prior = prior_divergence(host, x, times[0]).astype(trees.wide(*jax.tree.leaves(x)))
    samples = None if samples is None else int(samples)
    terms = _terms(
        key, denoiser, x, (times[:-1], stretch, gain), decoder, variance=variance, levels=levels, samples=samples
    )
    return VariationalBound(prior + sum(terms), prior, *terms)


@jitted
def _terms(
    key: Key[Array, "*batch"],
    denoiser: Denoiser,
    x: PyTree,
    table: Any,
    decoder: Any,
    *,
    variance: str,
    levels: int | None,
    samples: int | None,
) -> tuple[Float[Array, " batch"], Float[Array, " batch"]]:
    """Returns the terms of the reconstruction and of the diffusion.

    Args:
      table: the times, D and k of the steps, `[steps]` each.
      decoder: whether the grid ends clean; the smallest and the largest log-variance; alpha and sigma of the last time.
    """
    table, (clean, small, large, alpha, sigma) = [jnp.asarray(column) for column in table], decoder
    process, size, steps = denoiser.process, trees.batch_size(x), len(table[0])
    dtype = trees.wide(*jax.tree.leaves(x))
    time_key, noise_key, last_key = trees.split(key, 3)

    def evaluate(key: Key[Array, "*batch"], t: Any) -> tuple[PyTree, PyTree, PyTree]:
        """Returns the error of the estimate, the estimate of the data, and f."""
        eps = trees.normal_like(key, x)
        noisy = corrupt(process, x, eps, t)
        if variance == "learned":
            estimate, fraction = cast(VarianceDenoiser, denoiser).with_fraction(noisy, t)
        else:
            estimate = denoiser(noisy, t)
            fraction = jax.tree.map(lambda leaf: jnp.full_like(leaf, variance == "large"), x)
        return error(process, x, eps, estimate, t), estimate.x0, fraction

    def divergence(wrong: PyTree, fraction: PyTree, stretch: Any, gain: Any) -> Float[Array, " batch"]:
        def each(wrong: Array, fraction: Array) -> Array:
            d = fraction * trees.expand(stretch, wrong)
            return (d + jnp.expm1(-d) + trees.expand(gain, wrong) * jnp.exp(-d) * wrong**2) / 2

        return event_sum(jax.tree.map(each, wrong, fraction)).astype(dtype)

    def add(total: Float[Array, " batch"], j: Any) -> tuple[Float[Array, " batch"], None]:
        step = j if samples is None else _drawn(time_key, size, j, samples, steps - 1)
        t, *row = (column[step] for column in table)
        wrong, _, fraction = evaluate(trees.fold_in(noise_key, j), t)
        return (total + divergence(wrong, fraction, *row)).astype(dtype), None

    diffusion, terms = jnp.zeros(size, dtype), steps - 1 if samples is None else samples
    if steps > 1:
        diffusion, _ = loops.scan(add, diffusion, jnp.arange(terms))
        diffusion = diffusion * ((steps - 1) / terms)

    last_key, decoder_key = trees.split(last_key, 2)
    t, *row = (column[-1] for column in table)
    wrong, x0, fraction = evaluate(last_key, t)
    diffusion = diffusion + jnp.where(clean, 0.0, divergence(wrong, fraction, *row))
    varies = 0.0 if variance == "large" else 1.0

    def decode(x: Array, x0: Array, fraction: Array) -> Array:
        return gaussian_decoder(x, x0, small + varies * fraction * (large - small), levels)

    if_clean = -event_sum(jax.tree.map(decode, x, x0, fraction))
    if_noisy = reconstruction(decoder_key, x, alpha, sigma, levels)
    return jnp.where(clean, if_clean, if_noisy).astype(dtype), diffusion


def _drawn(key: Key[Array, "*batch"], size: int, j: Any, samples: int, count: int) -> Any:
    """Returns the j-th of `samples` steps out of `count` for each example, in strata as in `continuous_time`."""
    start = jax.vmap(jax.random.uniform)(key) if key.ndim else jax.random.uniform(key)
    strata = 0.0 if key.ndim else jnp.arange(size) / (size * samples)
    u = (start + strata + j / samples) % 1.0
    return jnp.minimum((u * count).astype(int), count - 1)
