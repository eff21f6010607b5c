"""The variational bound in discrete time: DDPM's and iDDPM's."""

from typing import Any, Literal, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree

from jaxdiff import trees
from jaxdiff.arithmetic import namespace
from jaxdiff.denoisers import Denoiser, VarianceDenoiser
from jaxdiff.likelihood.bounds import (
    Bound,
    check_arguments,
    error,
    event_sum,
    gaussian_decoder,
    prior_divergence,
    reconstruction,
)
from jaxdiff.processes import Times, corrupt
from jaxdiff.solvers.tableau import check_arguments as check_grid


def discrete_time(
    key: Key[Array, "*batch"],
    denoiser: Denoiser,
    x: PyTree,
    times: Times,
    *,
    variance: Literal["small", "large", "learned"] = "small",
    levels: int | None = None,
    samples: int | None = None,
) -> Bound:
    """A bound on `-log p(x)` by ancestral sampling over a grid, whose steps from t to s draw `x_s ~ N(mean, v)` as
    `solvers.ddpm` does:

        prior = |alpha x|^2/(2 sigma^2) at times[0]        reconstruction = -log p(x | x_t) at the end
        diffusion = sum over steps of KL(q(x_s | x_t, x) || p(x_s | x_t))
                  = sum 1/2 [f D + e^{-f D} - 1 + k e^{-f D} |(x - x0_hat)/sigma_t|^2]
        D = log(sigma_t^2/sigma_s^2)        k = sigma_t^2 (SNR_s - SNR_t)        log v = log v_small + f D

    with `v_small = sigma_{t|s}^2 sigma_s^2/sigma_t^2`, the variance of `q(x_s | x_t, x)`, and `v_large =
    sigma_{t|s}^2 = sigma_t^2 - (alpha_t/alpha_s)^2 sigma_s^2`. Sohl-Dickstein et al. 2015 (arXiv 1503.03585); Ho et al.
    2020 (arXiv 2006.11239), equation 5; Nichol & Dhariwal 2021 (iDDPM, arXiv 2102.09672), sections 2 and 3.

    If the grid ends at `t_clean` its last step is the decoder, a Gaussian around x0_hat, discretised if there are
    levels (DDPM, equation 13). `v_small` would be 0 there: as in the published code that of the step before takes its
    place, also for "large"; for "learned" it is the lower end, and `sigma_t^2` the upper. A grid of one step has only
    the latter. If the grid ends with noise, its last step is one like the others, and the decoder is that of
    `continuous_time`.

    Args:
      key: one key, or one per example.
      denoiser: for "learned", one with `with_fraction` (see `denoisers.from_network_with_variance`).
      x: leaves `[batch, *event]`.
      times: `[steps + 1]`, decreasing, as for solvers: `grids.discrete(process, 1000)` is DDPM's own.
      variance: f = 0, f = 1, or the network's.
      levels: as in `continuous_time`; 256 for pixels.
      samples: how many steps are drawn at random for each example, stratified, to stand for all but the last; None
        sums all of them. The last is always evaluated. The denoiser is called `samples + 1` or `steps` times.

    Returns: nats, `[batch]` each; `nats/(d log 2)` are bits per dimension.

    Raises:
      TypeError, ValueError: arguments that are not what they should be.
    """
    x, key = check_arguments(denoiser, x, levels, samples), trees.as_key(key)
    if variance not in ("small", "large", "learned"):
        raise ValueError(f"variance = {variance!r}; allowed are 'small', 'large' and 'learned'")
    if variance == "learned" and not hasattr(denoiser, "with_fraction"):
        raise TypeError(
            f"variance = 'learned' needs a denoiser with a variance, not a {type(denoiser).__name__}; allowed is what "
            "denoisers.from_network_with_variance makes"
        )
    host, times = check_grid(denoiser.process, times)
    alpha, sigma = host.alpha(times), host.sigma(times)
    xp, clean = namespace(times), sigma[-1] <= 0
    # At a clean end the step's own numbers mean nothing, and are kept finite.
    left = xp.where(sigma[1:] > 0, sigma[1:], sigma[:-1])
    stretch = 2 * xp.log(sigma[:-1] / left)
    gain = (alpha[1:] * sigma[:-1] / left) ** 2 - alpha[:-1] ** 2
    table = [jnp.asarray(column) for column in (times[:-1], stretch, gain)]
    process, size, steps = denoiser.process, trees.batch_size(x), len(times) - 1
    dtype = trees.wide(*jax.tree.leaves(x))
    time_key, noise_key, last_key = trees.split(key, 3)

    def ask(key: Key[Array, "*batch"], t: Any) -> tuple[PyTree, PyTree, PyTree]:
        """The error of the estimate, the estimate of the data, and f."""
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
        wrong, _, fraction = ask(trees.fold_in(noise_key, j), t)
        return total + divergence(wrong, fraction, *row), None

    diffusion, terms = jnp.zeros(size, dtype), steps - 1 if samples is None else samples
    if steps > 1:
        diffusion, _ = jax.lax.scan(add, diffusion, jnp.arange(terms))
        diffusion = diffusion * ((steps - 1) / terms)

    last_key, decoder_key = trees.split(last_key, 2)
    t, *row = (column[-1] for column in table)
    wrong, x0, fraction = ask(last_key, t)
    diffusion = diffusion + jnp.where(clean, 0.0, divergence(wrong, fraction, *row))
    large = 2 * xp.log(sigma[-2] / alpha[-1])  # of x0, as the decoder's mean
    small = large if steps == 1 else large + xp.log1p(-((alpha[-3] * sigma[-2] / (alpha[-2] * sigma[-3])) ** 2))
    kept = 0.0 if variance == "large" else 1.0

    def decode(x: Array, x0: Array, fraction: Array) -> Array:
        return gaussian_decoder(x, x0, small + kept * fraction * (large - small), levels)

    if_clean = -event_sum(jax.tree.map(decode, x, x0, fraction))
    if_noisy = reconstruction(decoder_key, x, alpha[-1], left[-1], levels)
    last = jnp.where(clean, if_clean, if_noisy).astype(dtype)
    prior = prior_divergence(host, x, times[0]).astype(dtype)
    return Bound(prior + last + diffusion, prior, last, diffusion)


def _drawn(key: Key[Array, "*batch"], size: int, j: Any, samples: int, count: int) -> Any:
    """The j-th of the steps drawn for each example, out of `count`: stratified as the times of `continuous_time`."""
    start = jax.vmap(jax.random.uniform)(key) if key.ndim else jax.random.uniform(key)
    strata = 0.0 if key.ndim else jnp.arange(size) / (size * samples)
    u = (start + strata + j / samples) % 1.0
    return jnp.minimum((u * count).astype(int), count - 1)
