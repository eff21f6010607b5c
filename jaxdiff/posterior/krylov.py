"""Krylov methods: solutions of linear equations that need only products with the matrix.

A method approximates a product `W u`, where u solves `M u = b`. The caller gives both products of a vector at once,
`apply(p) -> (M p, W p)`. A method then returns `W u` without one more product. With `W p = p` it returns u itself.

Each example has an equation of its own. The number of iterations is fixed, so that one compiled program serves every
equation. An example that is solved early, but for its rounding, stays as it is: quotients by 0 are 0.
"""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from jaxdiff import loops, trees
from jaxdiff.arithmetic import quotient

# `p -> (M p, W p)`.
Apply = Callable[[PyTree], tuple[PyTree, PyTree]]
Solver = Literal["gmres", "cg"]


def solve(apply: Apply, b: PyTree, iterations: int, solver: Solver) -> PyTree:
    """The product `W u` with the approximate solution of `M u = b`, by the solver of a name."""
    return {"gmres": gmres, "cg": conjugate_gradients}[solver](apply, b, iterations)


def conjugate_gradients(apply: Apply, b: PyTree, iterations: int) -> PyTree:
    """The product `W u` with the approximate solution of `M u = b`, for symmetric positive semidefinite M.

    Hestenes & Stiefel 1952. The start is 0.

    Args:
      apply: products `p -> (M p, W p)` of vectors of the shape of `b`.
      b: leaves `[batch, *event]`.
      iterations: the number of products.
    """

    def step(carry: tuple[PyTree, ...], _: None) -> tuple[tuple[PyTree, ...], None]:
        total, r, p, square = carry
        image, product = apply(p)
        length = jnp.where(square > least, quotient(square, trees.inner(p, image)), 0.0)
        total = trees.lincomb((1.0, length), (total, product))
        r = trees.lincomb((1.0, -length), (r, image))
        new = trees.inner(r, r)
        return (total, r, trees.lincomb((1.0, quotient(new, square)), (r, p)), new), None

    least = _least(b)
    carry = (_nothing(apply, b)[1], b, b, trees.inner(b, b))
    return loops.scan(step, carry, length=iterations)[0][0]


def gmres(apply: Apply, b: PyTree, iterations: int) -> PyTree:
    """The product `W u` with the u of the Krylov space that makes `|M u - b|` least, for any M.

    Saad & Schultz 1986. This is their solution in the form of Eisenstat, Elman & Schultz 1983 (generalised conjugate
    residuals): the images `M p` are kept orthonormal, so that no small system is left to solve. The start is 0.

    Args:
      apply: products `p -> (M p, W p)` of vectors of the shape of `b`.
      b: leaves `[batch, *event]`.
      iterations: the number of products. As many images and as many products are kept.
    """

    def step(carry: tuple[PyTree, ...], i: Array) -> tuple[tuple[PyTree, ...], None]:
        total, r, images, products = carry
        image, product = apply(r)
        alone = _least(image)
        for _ in range(2):  # the second time removes the rounding of the first
            shares = jax.vmap(trees.inner, (0, None))(images, image)
            image, product = (
                trees.lincomb((1.0, -1.0), (new, _sum(shares, old)))
                for new, old in ((image, images), (product, products))
            )
        square = trees.inner(image, image)
        going = (square > alone) & (trees.inner(r, r) > least)
        scale = jnp.where(going, quotient(1.0, jnp.sqrt(jnp.where(going, square, 1.0))), 0.0)
        image, product = (trees.lincomb((scale,), (side,)) for side in (image, product))
        share = trees.inner(image, r)
        total = trees.lincomb((1.0, share), (total, product))
        r = trees.lincomb((1.0, -share), (r, image))
        images, products = (
            jax.tree.map(lambda old, new: jax.lax.dynamic_update_index_in_dim(old, new, i, 0), old, new)
            for old, new in ((images, image), (products, product))
        )
        return (total, r, images, products), None

    nothing, least = _nothing(apply, b), _least(b)
    kept = jax.tree.map(lambda leaf: jnp.zeros((iterations, *leaf.shape), leaf.dtype), nothing)
    return loops.scan(step, (nothing[1], b, *kept), jnp.arange(iterations))[0][0]


def _sum(shares: Float[Array, "k batch"], kept: PyTree) -> PyTree:
    """The sums over k of `shares` times the vectors that are kept."""
    return jax.tree.map(lambda leaf: jnp.sum(jax.vmap(trees.expand)(shares, leaf) * leaf, axis=0), kept)


def _nothing(apply: Apply, b: PyTree) -> tuple[PyTree, PyTree]:
    """Zeros of the shapes of `M p` and of `W p`."""
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(apply, b))


def _least(v: PyTree) -> Float[Array, " batch"]:
    """The square of the length below which a part of v is its rounding. Another iteration would only enlarge it."""
    square = trees.inner(v, v)
    return (4 * jnp.finfo(square.dtype).eps) ** 2 * square
