"""Null-space models for observations with noise."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Key, PyTree

from jaxdiff.arithmetic import root
from jaxdiff.denoisers import Denoiser
from jaxdiff.posterior import spectral
from jaxdiff.posterior.operators.operator import Spectral
from jaxdiff.posterior.spectral import Coordinates, Step
from jaxdiff.processes import Times


def ddnm_plus(
    key: Key[Array, "*batch"],
    denoiser: Denoiser,
    x: PyTree,
    operator: Spectral,
    observation: PyTree,
    std: Any,
    times: Times,
) -> PyTree:
    """Draws from the posterior of a linear operator `A = U S V^T` by null-space models with noise, DDNM+.

    The steps are ancestral, `x_s = k x_t + a x0' + c z` (`solvers.ddpm`). In the coordinates `V^T x`, for a singular
    value v above 0 and `ybar = U^T y / v`:

        x0' = x0 + lambda (ybar - x0)       lambda = min(1, v c / (a std))
        c z becomes sqrt(c^2 - (a lambda std / v)^2) z

    so that the noise of the observation and the fresh noise together have the variance of an ancestral step. Where v is
    0, the step is ancestral. Wang et al. 2022 (arXiv 2212.00490), DDNM+.

    One scan evaluates the denoiser once in each step. The state is float32 or wider.

    Args:
      key, denoiser, x, operator, observation, std, times: see `ddrm`.

    Returns:
      The samples, with the shapes of `x`.

    Raises:
      TypeError, ValueError: see `ddrm`.
    """
    return spectral.sample(key, denoiser, x, operator, observation, std, times, (), _rule)


def _rule(numbers: tuple[Any, ...], step: Step, s: Array, std: Array, c: Coordinates) -> Array:
    whole = step.fresh * s >= step.mean * std  # lambda is 1
    known = (s > 0) & whole
    one = jnp.where(known, s, 1.0)
    noisy = jnp.where(whole, 1.0, step.mean * std)
    x0 = jnp.where(known, c.y / one, c.x0 + step.fresh / noisy * (c.y - s * c.x0))
    left = jnp.where(known, root(step.fresh**2 - (step.mean * std / one) ** 2), 0.0)
    unseen = step.mean * c.x0 + step.fresh * c.z
    return step.kept * c.x + jnp.where(s > 0, step.mean * x0 + left * c.z, unseen)
