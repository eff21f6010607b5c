"""Interpolation of latents: the way between two noises that stays noise."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from jaxdiff import checks, trees


def spherical(a: PyTree, b: PyTree, weight: Any) -> PyTree:
    """Spherical interpolation from `a` (weight 0) to `b` (weight 1), of each example.

    The direction turns at a constant rate along the great circle, and the norm changes linearly:

        u = sin((1 - w) angle)/sin(angle) a/|a| + sin(w angle)/sin(angle) b/|b|
        x = ((1 - w) |a| + w |b|) u

    Shoemake 1985; White 2016 (arXiv 1609.04468). Noise of many coordinates has nearly the norm `sqrt(d) sigma`. A
    straight line leaves this sphere, and samplers make dull pictures of what is inside; on the arc the norm stays. The
    angle and the norms are those over all leaves of an example. Opposite directions have no arc between them: the line
    is taken there.

    Args:
      a, b: leaves `[batch, *event]`, such as the results of `invert`.
      weight: a number, or `[batch]`. Beyond 0 and 1 the arc is continued.

    Raises:
      ValueError: `a` and `b` have different shapes, or `weight` has another one.
    """
    trees.check_floating("a", a)
    trees.check_alike("b", b, a)
    weight = jnp.asarray(weight, float)
    batch = (trees.batch_size(a),)
    checks.require(weight.shape in ((), batch), "weight.shape", weight.shape, f"() and {batch}, as a")
    a, b = (jax.tree.map(lambda leaf: jnp.asarray(leaf, trees.wide(leaf)), side) for side in (a, b))
    norms = [jnp.sqrt(trees.inner(side, side)) for side in (a, b)]
    u, v = (trees.lincomb((1 / jnp.where(n > 0, n, 1),), (side,)) for n, side in zip(norms, (a, b), strict=True))
    plus, minus = trees.lincomb((1.0, 1.0), (u, v)), trees.lincomb((1.0, -1.0), (u, v))
    # This form of the angle keeps its digits near 0 and near pi.
    angle = 2 * jnp.arctan2(jnp.sqrt(trees.inner(minus, minus)), jnp.sqrt(trees.inner(plus, plus)))
    sine = jnp.sin(angle)
    arc = (norms[0] > 0) & (norms[1] > 0) & (jnp.abs(sine) > 1e-6)
    safe = jnp.where(arc, sine, 1)
    length = (1 - weight) * norms[0] + weight * norms[1]
    of_u = jnp.where(arc, length * jnp.sin((1 - weight) * angle) / safe, (1 - weight) * norms[0])
    of_v = jnp.where(arc, length * jnp.sin(weight * angle) / safe, weight * norms[1])
    return trees.lincomb((of_u, of_v), (u, v))
