"""Score matching without corruption: losses for a function `s(x)` that learns the score `grad log p(x)` of data.

Integration by parts turns the Fisher divergence `E|s - grad log p|^2 / 2` into an expectation over data alone, up to a
constant (Hyvarinen 2005, theorem 1):

    E[tr(ds/dx) + |s|^2/2]

At the true score this expectation has its minimum, `-E|grad log p|^2 / 2`. The trace is estimated with random
directions v of identity covariance, by one forward-mode derivative each.
"""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree

from jaxdiff import checks, trees
from jaxdiff.denoisers import require_forward_mode

Score = Callable[[PyTree], PyTree]


def _directional(score: Score, x: PyTree, v: PyTree) -> tuple[PyTree, Float[Array, " batch"]]:
    """Returns `s(x)` and `v . (ds/dx) v`, for a score that treats the examples independently."""
    trees.check_floating("x", x)
    require_forward_mode(score, "score matching")
    x = jax.tree.map(lambda leaf, tangent: jnp.asarray(leaf, tangent.dtype), x, v)
    s, derivative = jax.jvp(score, (x,), (v,))
    trees.check_alike("the score", s, x)
    return s, trees.inner(derivative, v)


def implicit(
    score: Score, key: Key[Array, "*batch"], x: PyTree, *, probe: Literal["rademacher", "gaussian"] = "rademacher"
) -> Float[Array, " batch"]:
    """The loss of implicit score matching, with Hutchinson's estimate of the trace: `v . (ds/dx) v + |s|^2/2`.

    Hyvarinen 2005. With Gaussian v it is the variance-reduced sliced loss of Song et al. 2019 (arXiv 1905.07088),
    equation 8.

    Args:
      score: a function that treats the examples independently and returns the shapes of `x`.
      key: one key, or one key per example.
      x: data, leaves `[batch, *event]`. The score is given them in float32 or wider.
      probe: the distribution of v. "rademacher" (signs) has less variance than "gaussian".

    Returns:
      One number per example, `[batch]`.

    Raises:
      TypeError: `x` is not floating-point, or the key is not a JAX random key.
      ValueError: an unknown `probe`, a score that does not have the shapes of `x`, or a network without forward-mode
        derivatives.
    """
    checks.one_of("probe", probe, ("rademacher", "gaussian"))
    draw = trees.rademacher_like if probe == "rademacher" else trees.normal_like
    s, trace = _directional(score, x, draw(trees.as_key(key), x))
    return trace + trees.inner(s, s) / 2


def sliced(score: Score, key: Key[Array, "*batch"], x: PyTree) -> Float[Array, " batch"]:
    """The loss of sliced score matching: `v . (ds/dx) v + (v . s)^2/2` with v ~ N(0, I).

    Song et al. 2019 (arXiv 1905.07088), equation 7. In expectation it has its minimum at the true score, where it is
    `-E|grad log p|^2 / 2`. Arguments and errors are those of `implicit`.
    """
    v = trees.normal_like(trees.as_key(key), x)
    s, trace = _directional(score, x, v)
    return trace + trees.inner(s, v) ** 2 / 2
