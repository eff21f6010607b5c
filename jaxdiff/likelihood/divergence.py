"""The divergence of a vector field, exact or estimated.

The field F maps a batch of d-dimensional examples to a batch of the same shape, and treats the examples independently.

    div F = sum_i dF_i/dx_i          exact: d products with the transposed Jacobian
    div F = E[v . (dF/dx)^T v]       estimated: one product for each probe v, with E[v v^T] = I

Hutchinson 1990; for likelihoods Grathwohl et al. 2019 (FFJORD, arXiv 1810.01367), section 3.1. Both forms take
reverse-mode derivatives of the field, which fused attention kernels have too.
"""

import math
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree

from jaxdiff import trees
from jaxdiff.loops import vary_like

Probes = Literal["rademacher", "gaussian"]

_AT_ONCE = 16  # how many products are made together, so that the memory does not grow with the dimension


def exact(field: Callable[[PyTree], PyTree], z: PyTree) -> tuple[PyTree, Float[Array, " batch"]]:
    """Returns the field at z (leaves `[batch, *event]`) and its divergence, by one product per dimension."""
    value, pull = jax.vjp(field, z)
    leaves, structure = jax.tree.flatten(z)
    sizes = [math.prod(leaf.shape[1:]) for leaf in leaves]
    starts = [sum(sizes[:i]) for i in range(len(sizes))]

    def diagonal(i: Array) -> Float[Array, " batch"]:
        """`dF_i/dx_i`, where i counts the coordinates of all leaves."""
        unit = [
            jnp.broadcast_to((jnp.arange(size) == i - start).astype(leaf.dtype).reshape(leaf.shape[1:]), leaf.shape)
            for leaf, size, start in zip(leaves, sizes, starts, strict=True)
        ]
        probe = vary_like(jax.tree.unflatten(structure, unit), z)
        return trees.inner(probe, pull(probe)[0])

    dimension = sum(sizes)
    return value, jnp.sum(jax.lax.map(diagonal, jnp.arange(dimension), batch_size=min(_AT_ONCE, dimension)), axis=0)


def estimated(field: Callable[[PyTree], PyTree], z: PyTree, probes: PyTree) -> tuple[PyTree, Float[Array, " batch"]]:
    """Returns the field at z and the mean of `v . (dF/dx)^T v` over probes v: leaves `[count, batch, *event]`."""
    value, pull = jax.vjp(field, z)
    return value, jnp.mean(
        jax.lax.map(lambda probe: trees.inner(probe, pull(vary_like(probe, value))[0]), probes), axis=0
    )


def draw_probes(key: Key[Array, "*batch"], x: PyTree, kind: Probes, count: int) -> PyTree:
    """Draws probes for x: signs ("rademacher") or standard normal numbers ("gaussian"); `[count, batch, *event]`.

    Signs have the smaller variance. Where the Jacobian is diagonal they have no variance at all. With one key per
    example, the probes of example i depend on `key[i]` alone.
    """
    draw = trees.rademacher_like if kind == "rademacher" else trees.normal_like
    drawn = [draw(trees.fold_in(key, i), x) for i in range(count)]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *drawn)
