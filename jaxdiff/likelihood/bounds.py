"""What the variational bounds are made of: their parts, the prior's divergence, and decoders of the last step.

    -log p(x) <= KL(q(x_T | x) || N(0, sigma_T^2)) + E[-log p(x | x_0)] + the steps' divergences
                 prior                               reconstruction       diffusion

with `x_0` the least noisy of the latent variables. All in nats, summed over all coordinates of an example; divided by
`d log 2` they are bits per dimension.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PyTree

from jaxdiff import trees
from jaxdiff.denoisers import Denoiser, check_denoiser
from jaxdiff.parametrizations import Estimate
from jaxdiff.processes import Process


class Bound(NamedTuple):
    """An upper bound on `-log p(x)` in nats, one number per example, and the parts it is the sum of."""

    nats: Float[Array, " batch"]
    prior: Float[Array, " batch"]
    reconstruction: Float[Array, " batch"]
    diffusion: Float[Array, " batch"]


def check_arguments(denoiser: Denoiser, x: PyTree, levels: int | None, samples: int | None) -> PyTree:
    """The data in float32 or wider, once the arguments are known to be good.

    Raises:
      TypeError: no denoiser, or data that is not floating-point.
      ValueError: `levels` below 2, `samples` below 1, or (where it is known) data that is not at its levels.
    """
    check_denoiser(denoiser)
    for name, value, least in (("levels", levels, 2), ("samples", samples, 1)):
        integer = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if value is not None and not (integer and value >= least):
            raise ValueError(f"{name} = {value!r}; allowed are integers of at least {least}")
    trees.batch_size(x)
    for leaf in jax.tree.leaves(x):
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            raise TypeError(f"x has a leaf of type {jnp.result_type(leaf)}; allowed are floats, pixels in [-1, 1]")
        if levels is not None and not isinstance(leaf, jax.core.Tracer):
            level = (np.asarray(leaf, np.float64) + 1) * (levels - 1) / 2
            if not np.all((abs(level - np.round(level)) < 0.05) & (level > -0.5) & (level < levels - 0.5)):
                raise ValueError(
                    f"x runs from {np.min(leaf)} to {np.max(leaf)}; allowed with levels = {levels} are the numbers "
                    "2 level/(levels - 1) - 1, in [-1, 1]"
                )
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, trees.wide(leaf)), x)


def event_sum(tree: PyTree) -> Float[Array, " batch"]:
    """The sum over all event axes, and over all leaves: one number per example."""
    sums = [jnp.sum(leaf.reshape(leaf.shape[0], -1), axis=1) for leaf in jax.tree.leaves(tree)]
    return jnp.sum(jnp.stack(sums), axis=0)


def prior_divergence(process: Process, x: PyTree, t: Any) -> Float[Array, " batch"]:
    """`KL(q(x_t | x) || N(0, sigma_t^2)) = |alpha_t x|^2 / (2 sigma_t^2)`; the prior is what `prior_sample` draws."""
    ratio = process.alpha(t) / process.sigma(t)
    return event_sum(jax.tree.map(lambda leaf: leaf**2, x)) * ratio**2 / 2


def error(process: Process, x0: PyTree, eps: PyTree, estimate: Estimate, t: Any) -> PyTree:
    """`(x0 - x0_hat)/sigma = -(eps - eps_hat)/alpha`, free of the cancellation and the poles that either form has."""
    alpha, sigma = process.alpha(t), process.sigma(t)
    norm = alpha**2 + sigma**2
    coefficients = (sigma / norm, -alpha / norm, -sigma / norm, alpha / norm)
    return trees.lincomb(coefficients, (x0, eps, estimate.x0, estimate.eps))


# ------------------------------------------------------------------------------------ decoders


def gaussian_decoder(
    x: Float[Array, "batch *event"], mean: Float[Array, "batch *event"], log_variance: Any, levels: int | None
) -> Float[Array, "batch *event"]:
    """`log N(x; mean, variance)` of each coordinate; with `levels`, of the bin of width `2/(levels - 1)` around `x`.

    The first and the last of the levels, -1 and 1, have what lies beyond them too, so that the probabilities of all
    levels sum to one. Ho et al. 2020 (arXiv 2006.11239), equation 13; here without its floor under the logarithm.
    """
    deviation = jnp.exp(-log_variance / 2)
    if levels is None:
        return -(((x - mean) * deviation) ** 2 + log_variance + math.log(2 * math.pi)) / 2
    half = 1 / (levels - 1)
    low, high = (x - half - mean) * deviation, (x + half - mean) * deviation
    # Phi(b) - Phi(a) = Phi(-a) - Phi(-b): computed in the lower tail, where small numbers are kept.
    flip = low + high > 0
    low, high = jnp.where(flip, -high, low), jnp.where(flip, -low, high)
    top, bottom = jax.scipy.special.log_ndtr(high), jax.scipy.special.log_ndtr(low)
    inside = top + jnp.log(-jnp.expm1(bottom - top))
    edge = 1 - half
    upper = jax.scipy.special.log_ndtr(-(x - half - mean) * deviation)
    lower = jax.scipy.special.log_ndtr((x + half - mean) * deviation)
    return jnp.where(x < -edge, lower, jnp.where(x > edge, upper, inside))


def reconstruction(
    key: Key[Array, "*batch"], x: PyTree, alpha: Any, sigma: Any, levels: int | None
) -> Float[Array, " batch"]:
    """`E[-log p(x | x_0)]` for `x_0 = alpha x + sigma eps` and `p` proportional to `q(x_0 | x)` as a function of `x`.

    Over all numbers it is `N(x_0/alpha, (sigma/alpha)^2)`, whose expectation is exact; over levels the expectation is
    one draw. Kingma et al. 2021 (VDM, arXiv 2107.00630), section 3.3.

    Args:
      key: one key, or one per example.
    """
    if levels is None:
        each = (1 + math.log(2 * math.pi)) / 2 + jnp.log(sigma / alpha)
        return jnp.full(trees.batch_size(x), trees.event_size(x) * each)
    noisy = trees.lincomb((alpha, sigma), (x, trees.normal_like(key, x)))
    return -event_sum(jax.tree.map(lambda a, b: _log_posterior(a, b, alpha, sigma, levels), x, noisy))


def _log_posterior(
    x: Float[Array, "batch *event"], noisy: Float[Array, "batch *event"], alpha: Any, sigma: Any, levels: int
) -> Float[Array, "batch *event"]:
    """`log q(noisy | x)`, normalised over the levels of each coordinate."""
    scale = (levels - 1) / 2
    here, there = jnp.round((x + 1) * scale), (noisy / alpha + 1) * scale  # in units of a level
    nearest = jnp.clip(jnp.round(there), 0, levels - 1)
    rate = (alpha / (sigma * scale)) ** 2 / 2

    def exponent(level: Any) -> Float[Array, "batch *event"]:
        return -rate * (nearest - level) * (2 * there - nearest - level)

    # One level at a time: an axis of levels would take 256 times the memory of the data.
    @jax.checkpoint
    def add(total: Float[Array, "batch *event"], level: Any) -> tuple[Float[Array, "batch *event"], None]:
        return total + jnp.exp(exponent(level)), None

    total, _ = jax.lax.scan(add, jnp.zeros_like(there), jnp.arange(levels, dtype=there.dtype))
    return exponent(here) - jnp.log(total)
