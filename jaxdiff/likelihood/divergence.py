"""The divergence of a vector field, exactly or estimated, beside its value.

For a field F of a batch of d-dimensional examples, each example's output depending on that example alone,

    div F = sum_i dF_i/dx_i          by d Jacobian-vector products
    div F = E[v . (dF/dx) v]         for E[v v^T] = I: one product a probe v

Hutchinson 1990; for likelihoods Grathwohl et al. 2019 (FFJORD, arXiv 1810.01367), section 3.1. Both need forward-mode
derivatives of the denoiser.
"""

import math
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree

from jaxdiff import trees

Probes = Literal["rademacher", "gaussian"]

_AT_ONCE = 16  # products that are made together: memory does not grow with the dimension


def exact(field: Callable[[PyTree], PyTree], z: PyTree) -> tuple[PyTree, Float[Array, " batch"]]:
    """The field at z (leaves `[batch, *event]`) and its divergence, by one product a dimension."""
    value, product = jax.linearize(field, z)
    leaves, structure = jax.tree.flatten(z)
    sizes = [math.prod(leaf.shape[1:]) for leaf in leaves]
    starts = [sum(sizes[:i]) for i in range(len(sizes))]

    def diagonal(i: Array) -> Float[Array, " batch"]:
        """`dF_i/dx_i`, with coordinates counted through all leaves."""
        unit = [
            jnp.broadcast_to((jnp.arange(size) == i - start).astype(leaf.dtype).reshape(leaf.shape[1:]), leaf.shape)
            for leaf, size, start in zip(leaves, sizes, starts, strict=True)
        ]
        probe = jax.tree.unflatten(structure, unit)
        return _inner(probe, product(probe))

    dimension = sum(sizes)
    return value, jnp.sum(jax.lax.map(diagonal, jnp.arange(dimension), batch_size=min(_AT_ONCE, dimension)), axis=0)


def estimated(field: Callable[[PyTree], PyTree], z: PyTree, probes: PyTree) -> tuple[PyTree, Float[Array, " batch"]]:
    """The field at z and the mean of `v . (dF/dx) v` over probes, leaves `[count, batch, *event]`."""
    value, product = jax.linearize(field, z)
    return value, jnp.mean(jax.lax.map(lambda probe: _inner(probe, product(probe)), probes), axis=0)


def draw_probes(key: Key[Array, "*batch"], x: PyTree, kind: Probes, count: int) -> PyTree:
    """Probes for x, leaves `[count, batch, *event]`: signs ("rademacher") or standard normal numbers ("gaussian").

    Signs have the smaller variance, none at all where the Jacobian is diagonal. With one key per example the probes of
    example i depend on `key[i]` alone.
    """
    drawn = [trees.normal_like(trees.fold_in(key, i), x) for i in range(count)]
    if kind == "rademacher":
        drawn = [jax.tree.map(lambda v: jnp.where(v < 0, -1.0, 1.0).astype(v.dtype), probe) for probe in drawn]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *drawn)


def _inner(one: PyTree, other: PyTree) -> Float[Array, " batch"]:
    """The inner product over all event axes and leaves."""
    pairs: list[Any] = list(zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))
    return sum((jnp.sum(a * b, axis=tuple(range(1, a.ndim))) for a, b in pairs), start=jnp.zeros(()))
