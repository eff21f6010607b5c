"""Score matching without corruption: losses for any function `s(x)` that is to be the score `grad log p(x)` of the data.

Integration by parts turns the Fisher divergence `E|s - grad log p|^2 / 2` into an expectation over data alone, up to a constant:
`E[tr(ds/dx) + |s|^2/2]`, least, `-E|grad log p|^2 / 2`, at the true score. Hyvarinen 2005, theorem 1. The trace is estimated with random directions v of identity
covariance, by one forward-mode derivative each.
"""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jaxdiff import trees


def _directional(score: Callable[..., Any], x: Array, v: Array) -> tuple[Array, Float[Array, " batch"]]:
    """`s(x)` and `v . (ds/dx) v`, for a score that treats examples one by one."""
    s, derivative = jax.jvp(score, (x,), (v,))
    return s, jnp.sum((derivative * v).reshape(len(x), -1), axis=1)


def implicit(
    score: Callable[[Array], Array],
    key: Key[Array, "*batch"],
    x: Float[Array, "batch *event"],
    *,
    probe: Literal["rademacher", "gaussian"] = "rademacher",
) -> Float[Array, " batch"]:
    """`v . (ds/dx) v + |s|^2/2`, one number per example: Hutchinson's estimate of implicit score matching.

    Hyvarinen 2005; with Gaussian v, the variance-reduced sliced loss of Song et al. 2019 (arXiv 1905.07088), equation 8.

    Args:
      score: `[batch, *event] -> [batch, *event]`, example by example.
      key: one key, or one per example.
      x: data.
      probe: the distribution of v; Rademacher (signs) has less variance.
    """
    if probe not in ("rademacher", "gaussian"):
        raise ValueError(f"probe = {probe!r}; allowed are 'rademacher' and 'gaussian'")
    v = trees.normal_like(trees.as_key(key), x)
    if probe == "rademacher":
        v = jnp.where(v < 0, -1.0, 1.0).astype(v.dtype)
    s, trace = _directional(score, x, v)
    return trace + jnp.sum((s**2).reshape(len(x), -1), axis=1) / 2


def sliced(
    score: Callable[[Array], Array], key: Key[Array, "*batch"], x: Float[Array, "batch *event"]
) -> Float[Array, " batch"]:
    """`v . (ds/dx) v + (v . s)^2/2` with v ~ N(0, I), one number per example: sliced score matching.

    Song et al. 2019 (arXiv 1905.07088), equation 7. Least, in expectation, at the true score, where it is `-E|grad log p|^2 / 2`.

    Args: as `implicit`.
    """
    v = trees.normal_like(trees.as_key(key), x)
    s, trace = _directional(score, x, v)
    return trace + jnp.sum((s * v).reshape(len(x), -1), axis=1) ** 2 / 2
