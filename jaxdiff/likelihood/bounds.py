"""The terms of the variational bounds: the prior's divergence, and decoders of the last step.

    -log p(x) <= KL(q(x_T | x) || N(0, sigma_T^2)) + E[-log p(x | x_0)] + the divergences of the steps
                 prior                               reconstruction       diffusion

Here `x_0` is the least noisy of the latent variables. All terms are in nats, summed over the coordinates of an example.
Divided by `d log 2` they are bits per dimension.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PyTree

from jaxdiff import checks, loops, trees
from jaxdiff.denoisers import Denoiser, check_denoiser
from jaxdiff.parametrizations import Estimate
from jaxdiff.processes import Process


class VariationalBound(NamedTuple):
    """An upper bound on `-log p(x)`, and the three terms that it is the sum of, in nats: `[batch]` each."""

    nats: Float[Array, " batch"]
    prior: Float[Array, " batch"]
    reconstruction: Float[Array, " batch"]
    diffusion: Float[Array, " batch"]


def checked_data(denoiser: Denoiser, x: PyTree, levels: int | None, samples: int | None) -> PyTree:
    """Checks the arguments of a bound, and returns the data in float32 or wider.

    Raises:
      TypeError: `denoiser` is not a denoiser, or the data are not floating-point.
      ValueError: `levels` is below 2, `samples` is below 1, or the data (where known) are not at the levels.
    """
    check_denoiser(denoiser)
    for name, value, least in (("levels", levels, 2), ("samples", samples, 1)):
        if value is not None:
            checks.integer(name, value, least)
    trees.batch_size(x)
    trees.check_floating("x", x)
    for leaf in jax.tree.leaves(x):
        if levels is not None and not trees.traced(leaf):
            level = (np.asarray(leaf, np.float64) + 1) * (levels - 1) / 2
            good = np.all((abs(level - np.round(level)) < 0.05) & (level > -0.5) & (level < levels - 0.5))
            shown = (float(np.asarray(leaf).min()), float(np.asarray(leaf).max()))
            checks.require(good, "range of x", shown, f"x = 2 level/(levels - 1) - 1 with levels = {levels}")
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, trees.wide(leaf)), x)


def event_sum(tree: PyTree) -> Float[Array, " batch"]:
    """Returns the sum over all event axes and all leaves: one number per example."""
    sums = [jnp.sum(leaf.reshape(leaf.shape[0], -1), axis=1) for leaf in jax.tree.leaves(tree)]
    return jnp.sum(jnp.stack(sums), axis=0)


def prior_divergence(process: Process, x: PyTree, t: Any) -> Float[Array, " batch"]:
    """Returns `KL(q(x_t | x) || N(0, sigma_t^2)) = |alpha_t x|^2 / (2 sigma_t^2)`, for the prior of `prior_sample`."""
    ratio = process.alpha(t) / process.sigma(t)
    return event_sum(jax.tree.map(lambda leaf: leaf**2, x)) * ratio**2 / 2


def error(process: Process, x0: PyTree, eps: PyTree, estimate: Estimate, t: Any) -> PyTree:
    """Returns `(x0 - x0_hat)/sigma = -(eps - eps_hat)/alpha`, without the cancellation and the poles of either form."""
    alpha, sigma = process.alpha(t), process.sigma(t)
    norm = alpha**2 + sigma**2
    coefficients = (sigma / norm, -alpha / norm, -sigma / norm, alpha / norm)
    return trees.lincomb(coefficients, (x0, eps, estimate.x0, estimate.eps))


# ------------------------------------------------------------------------------------ decoders


def gaussian_decoder(
    x: Float[Array, "batch *event"], mean: Float[Array, "batch *event"], log_variance: Any, levels: int | None
) -> Float[Array, "batch *event"]:
    """Returns the log-density `log N(x; mean, variance)` of each coordinate.

    With `levels`, it is the log-probability of the bin of width `2/(levels - 1)` around `x`. The bins of the first and
    the last level, -1 and 1, reach to infinity, so that the probabilities of all levels sum to one. Ho et al. 2020
    (arXiv 2006.11239), equation 13; here without the published floor under the logarithm.
    """
    deviation = jnp.exp(-log_variance / 2)
    if levels is None:
        return -(((x - mean) * deviation) ** 2 + log_variance + math.log(2 * math.pi)) / 2
    half = 1 / (levels - 1)
    low, high = (x - half - mean) * deviation, (x + half - mean) * deviation
    # Phi(b) - Phi(a) = Phi(-a) - Phi(-b). The lower tail is used, where small probabilities keep their digits.
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
    """Returns `E[-log p(x | x_0)]` for `x_0 = alpha x + sigma eps`, with p proportional to `q(x_0 | x)` over x.

    For real numbers x, p is `N(x_0/alpha, (sigma/alpha)^2)`, and the expectation is exact. For x in levels, the
    expectation is estimated by one draw. Kingma et al. 2021 (VDM, arXiv 2107.00630), section 3.3.

    Args:
      key: one key, or one key per example.
    """
    if levels is None:
        each = (1 + math.log(2 * math.pi)) / 2 + jnp.log(sigma / alpha)
        return jnp.full(trees.batch_size(x), trees.event_size(x) * each)
    noisy = trees.lincomb((alpha, sigma), (x, trees.normal_like(key, x)))
    return -event_sum(jax.tree.map(lambda a, b: _log_posterior(a, b, alpha, sigma, levels), x, noisy))


def _log_posterior(
    x: Float[Array, "batch *event"], noisy: Float[Array, "batch *event"], alpha: Any, sigma: Any, levels: int
) -> Float[Array, "batch *event"]:
    """Returns `log q(noisy | x)`, normalised over the levels of each coordinate."""
    scale = (levels - 1) / 2
    of_x, of_noisy = jnp.round((x + 1) * scale), (noisy / alpha + 1) * scale  # in units of a level
    nearest = jnp.clip(jnp.round(of_noisy), 0, levels - 1)
    # One rate for each number. The derivative by a single rate would sum over the batch, on all devices, at each level.
    rate = jnp.broadcast_to((alpha / (sigma * scale)) ** 2 / 2, of_noisy.shape)

    def exponent(level: Any) -> Float[Array, "batch *event"]:
        return -rate * (nearest - level) * (2 * of_noisy - nearest - level)

    # One level at a time. An axis of 256 levels would take 256 times the memory of the data.
    @jax.checkpoint
    def add(total: Float[Array, "batch *event"], level: Any) -> tuple[Float[Array, "batch *event"], None]:
        return total + jnp.exp(exponent(level)), None

    total, _ = loops.scan(add, jnp.zeros_like(of_noisy), jnp.arange(levels, dtype=of_noisy.dtype))
    return exponent(of_x) - jnp.log(total)
