"""Loops that also run within `jax.shard_map`.

Within `shard_map` JAX follows which values differ among the devices of an axis. The carry of a loop must not change in
this, and neither must a tangent differ from its primal value. Values made from constants are the same on all devices,
and become different as soon as data enter them. These functions mark such values as different from the start. Outside
of `shard_map` they do nothing more than JAX's own.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

C = TypeVar("C")
T = TypeVar("T")


def scan(
    step: Callable[[C, Any], tuple[C, Any]], carry: C, xs: PyTree = None, length: int | None = None
) -> tuple[C, Any]:
    """`jax.lax.scan`, with a carry that may begin alike on all devices and then differ."""
    first = jax.tree.map(lambda leaf: leaf[0] if len(leaf) else jnp.zeros(leaf.shape[1:], leaf.dtype), xs)
    return jax.lax.scan(step, _steady(lambda carry: step(carry, first)[0], carry), xs, length)


def while_loop(proceed: Callable[[C], Any], step: Callable[[C], C], carry: C) -> C:
    """`jax.lax.while_loop`, with a carry that may begin alike on all devices and then differ."""
    return jax.lax.while_loop(proceed, step, _steady(step, carry))


def repeat(times: Any, step: Callable[[Array, C], C], carry: C) -> C:
    """`step(i, carry)` for i from 0 to `times - 1`. The number may be traced."""
    start = (jnp.zeros((), jnp.int32), carry)
    return while_loop(lambda c: c[0] < times, lambda c: (c[0] + 1, step(*c)), start)[1]


def cond(condition: Any, one: Callable[[], T], other: Callable[[], T]) -> T:
    """`jax.lax.cond`, with two functions of which only one may give values that differ on devices."""
    if not jax.sharding.get_abstract_mesh().manual_axes:
        return jax.lax.cond(condition, one, other)
    likes = jax.eval_shape(one), jax.eval_shape(other)
    return jax.lax.cond(condition, lambda: vary_like(one(), likes[1]), lambda: vary_like(other(), likes[0]))


def vary_like(tree: PyTree, like: PyTree) -> PyTree:
    """The leaves of `tree`, marked as different on the devices on which the leaves of `like` are different."""

    def mark(leaf: Any, like: Any) -> Any:
        axes = tuple(sorted(_axes(like) - _axes(leaf)))
        return jax.lax.pcast(leaf, axes, to="varying") if axes else leaf

    return jax.tree.map(mark, tree, like)


def largest(value: Any) -> Any:
    """The largest of the values on all devices on which they differ."""
    axes = tuple(sorted(_axes(value)))
    return jax.lax.pmax(value, axes) if axes else value


def _steady(step: Callable[[C], C], carry: C) -> C:
    """The carry, marked as different wherever it is different after steps."""
    if not jax.sharding.get_abstract_mesh().manual_axes:
        return carry
    # Each round can make more of the carry differ. A round that changes nothing is the last one.
    while True:
        marked = vary_like(carry, jax.eval_shape(step, carry))
        if jax.tree.map(_axes, marked) == jax.tree.map(_axes, carry):
            return marked
        carry = marked


def _axes(leaf: Any) -> frozenset[str]:
    """The axes of `shard_map` along which a value differs."""
    kind = leaf if isinstance(leaf, jax.ShapeDtypeStruct) else jax.typeof(jnp.asarray(leaf))
    return frozenset(kind.manual_axis_type.varying)
