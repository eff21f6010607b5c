"""Score matching without corruption: losses for any function `s(x)` that is to be the score `grad log p(x)` of data.

Integration by parts turns the Fisher divergence `E|s - grad log p|^2 / 2` into an expectation over data alone, up to a
constant: `E[tr(ds/dx) + |s|^2/2]`, least, `-E|grad log p|^2 / 2`, at the true score. Hyvarinen 2005, theorem 1. The
trace is estimated with random directions v of identity covariance, by one forward-mode derivative each.
"""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree

from jaxdiff import trees

Score = Callable[[PyTree], PyTree]


def _dot(a: PyTree, b: PyTree) -> Float[Array, " batch"]:
    """The inner product over all event axes and all leaves."""
    products = jax.tree.leaves(jax.tree.map(lambda x, y: jnp.sum((x * y).reshape(len(x), -1), axis=1), a, b))
    return jnp.sum(jnp.stack(products), axis=0)


def _directional(score: Score, x: PyTree, v: PyTree) -> tuple[PyTree, Float[Array, " batch"]]:
    """`s(x)` and `v . (ds/dx) v`, for a score that treats examples one by one."""
    x = jax.tree.map(lambda leaf, tangent: jnp.asarray(leaf, tangent.dtype), x, v)
    s, derivative = jax.jvp(score, (x,), (v,))
    trees.check_alike("the score", s, x)
    return s, _dot(derivative, v)


def implicit(
    score: Score, key: Key[Array, "*batch"], x: PyTree, *, probe: Literal["rademacher", "gaussian"] = "rademacher"
) -> Float[Array, " batch"]:
    """`v . (ds/dx) v + |s|^2/2`, one number per example: Hutchinson's estimate of implicit score matching.

    Hyvarinen 2005; with Gaussian v, the variance-reduced sliced loss of Song et al. 2019 (arXiv 1905.07088), equation
    8.

    Args:
      score: a function from the shapes of `x` to the same shapes, example by example.
      key: one key, or one per example.
      x: data, leaves `[batch, *event]`; the score is given it in float32 or wider.
      probe: the distribution of v; Rademacher (signs) has less variance.

    Raises:
      ValueError: another `probe`, or a score unlike `x`.
    """
    if probe not in ("rademacher", "gaussian"):
        raise ValueError(f"probe = {probe!r}; allowed are 'rademacher' and 'gaussian'")
    v = trees.normal_like(trees.as_key(key), x)
    if probe == "rademacher":
        v = jax.tree.map(lambda leaf: jnp.where(leaf < 0, -1.0, 1.0).astype(leaf.dtype), v)
    s, trace = _directional(score, x, v)
    return trace + _dot(s, s) / 2


def sliced(score: Score, key: Key[Array, "*batch"], x: PyTree) -> Float[Array, " batch"]:
    """`v . (ds/dx) v + (v . s)^2/2` with v ~ N(0, I), one number per example: sliced score matching.

    Song et al. 2019 (arXiv 1905.07088), equation 7. Least, in expectation, at the true score, where it is
    `-E|grad log p|^2 / 2`.

    Args, errors: as `implicit`.
    """
    v = trees.normal_like(trees.as_key(key), x)
    s, trace = _directional(score, x, v)
    return trace + _dot(s, v) ** 2 / 2
