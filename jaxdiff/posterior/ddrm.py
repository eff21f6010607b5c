"""Denoising diffusion restoration models: each singular value has its own rule."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key, PyTree

from jaxdiff import trees
from jaxdiff.arithmetic import root
from jaxdiff.checks import require
from jaxdiff.denoisers import Denoiser
from jaxdiff.posterior import spectral
from jaxdiff.posterior.operators.operator import Spectral
from jaxdiff.posterior.spectral import Coordinates, Step
from jaxdiff.processes import Times


def ddrm(
    key: Key[Array, "*batch"],
    denoiser: Denoiser,
    x: PyTree,
    operator: Spectral,
    observation: PyTree,
    std: Any,
    times: Times,
    *,
    eta: Any = 0.85,
    eta_b: Any = 1.0,
) -> PyTree:
    """Draws from the posterior of a linear operator `A = U S V^T`, coordinate by coordinate of `V^T x`.

    For a singular value v, with `ybar = U^T y / v`, the estimates x0 and eps in the same coordinates, and fresh z:

        v = 0:                          x_s = alpha_s x0 + sigma_s (sqrt(1 - eta^2) eps + eta z)
        sigma_s/alpha_s < std/v:        x_s = alpha_s x0 + sigma_s (sqrt(1 - eta^2) v/std (ybar - x0) + eta z)
        sigma_s/alpha_s >= std/v:       x_s = alpha_s ((1 - eta_b) x0 + eta_b ybar)
                                              + sqrt(sigma_s^2 - eta_b^2 alpha_s^2 std^2/v^2) z

    The start is `alpha ybar + sqrt(sigma^2 - alpha^2 std^2/v^2) z` where this is a number, and noise elsewhere. Kawar
    et al. 2022 (arXiv 2201.11793), equations 7 and 8. Nothing is divided by alpha or by v, so that a process may begin
    without signal. The noise of the third rule depends on the observation, which no tableau expresses. The published
    samples take 20 steps of equal lengths in time.

    One scan evaluates the denoiser once in each step. The state is float32 or wider.

    Args:
      key: one key, or one key per example, as for `sample`.
      denoiser: the denoiser of the prior.
      x: the noise to start from, at `times[0]`: leaves `[batch, *event]`, usually from `prior_sample`.
      operator: a linear operator with a singular value decomposition: most of `posterior.operators`. It is a leaf.
      observation: what was seen, `y = A(x_0) + std n`, with `[batch]` rows or one row for all examples. It is a leaf.
      std: the standard deviation of the noise, in the units of the data that the model sees: for pictures in [-1, 1]
        it is twice that for [0, 1]. A number or `[batch]`, at least 0. It is a leaf.
      times: a grid `[steps + 1]`, decreasing.
      eta: the share of fresh noise where nothing is known, from 0 to 1. It is a leaf.
      eta_b: the weight of the observation where the noise of the process is greater than its own, from 0 to 1. It is a
        leaf.

    Returns:
      The samples, with the shapes of `x`.

    Raises:
      TypeError: an argument of the wrong type, or an operator without a singular value decomposition.
      ValueError: a number that is not allowed, or arguments that do not fit each other.
    """
    for name, value in (("eta", eta), ("eta_b", eta_b)):
        good = trees.traced(value) or np.all((np.asarray(value) >= 0) & (np.asarray(value) <= 1))
        require(good, name, value, "numbers from 0 to 1")
    numbers = (jnp.asarray(eta, float), jnp.asarray(eta_b, float))
    return spectral.sample(key, denoiser, x, operator, observation, std, times, numbers, _rule, _start)


def _start(first: Step, s: Array, std: Array, z: Array, y: Array) -> Array:
    known = s * first.sigma > first.alpha * std
    one = jnp.where(known, s, 1.0)
    left = root(first.sigma**2 - jnp.where(known, (first.alpha * std / one) ** 2, 0.0))
    return jnp.where(known, first.alpha * y / one + left * z, first.sigma * z)


def _rule(numbers: tuple[Any, ...], step: Step, s: Array, std: Array, c: Coordinates) -> Array:
    eta, eta_b = numbers
    kept = root(1 - eta**2)
    unseen = step.alpha * c.x0 + step.sigma * (kept * c.eps + eta * c.z)
    # (y - v x0)/std has the unit variance of eps.
    noisy = jnp.where(std > 0, std, 1.0)
    less = step.alpha * c.x0 + step.sigma * (kept * (c.y - s * c.x0) / noisy + eta * c.z)
    known = (s > 0) & (s * step.sigma >= step.alpha * std)
    one = jnp.where(known, s, 1.0)
    left = root(step.sigma**2 - jnp.where(known, (eta_b * step.alpha * std / one) ** 2, 0.0))
    more = step.alpha * ((1 - eta_b) * c.x0 + eta_b * c.y / one) + left * c.z
    return jnp.where(s > 0, jnp.where(known, more, less), unseen)
