"""A convolution whose derivative by its input is as fast within loops as outside of them."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float


def convolve(
    x: Float[Array, "batch *space channels"],
    kernel: Float[Array, "*window channels features"],
    window_strides: tuple[int, ...],
    padding: Any,
    **options: Any,
) -> Float[Array, "batch *new_space features"]:
    """`jax.lax.conv_general_dilated` for channels on the last axis, as `flax.linen.Conv` calls it.

    The transpose of a convolution exchanges the two axes of channels in the description of its kernel. XLA's compiler
    for CPUs brings convolutions into the usual order, but not those within loops, and runs the latter ten times slower.
    In the derivative by `x` the axes are therefore exchanged beforehand, so that its transpose has the usual order.
    Samplers that differentiate a network, as `posterior.mmps` does, loop over such transposes.
    """
    settings = {"window_strides": window_strides, "padding": padding, **options}
    hashable = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
    return _convolve(x, kernel, tuple(hashable.items()))


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def _convolve(x: Array, kernel: Array, options: tuple[tuple[str, Any], ...]) -> Array:
    return lax.conv_general_dilated(x, kernel, **dict(options))


@functools.partial(_convolve.defjvp, symbolic_zeros=True)
def _derivative(options: tuple[tuple[str, Any], ...], primals: Any, tangents: Any) -> tuple[Array, Any]:
    (x, kernel), (dx, dkernel) = primals, tangents
    settings, parts = dict(options), []
    if not isinstance(dx, SymbolicZero):
        last = kernel.ndim - 1
        numbers = settings["dimension_numbers"]._replace(rhs_spec=(last - 1, last, *range(last - 1)))
        exchanged = settings | {"dimension_numbers": numbers}
        parts.append(lax.conv_general_dilated(dx, kernel.swapaxes(-1, -2), **exchanged))
    if not isinstance(dkernel, SymbolicZero):
        parts.append(lax.conv_general_dilated(x, dkernel, **settings))
    # JAX's own convolution: the policy of `remat.py` knows it by name.
    y = lax.conv_general_dilated(x, kernel, **settings)
    return y, functools.reduce(jnp.add, parts) if parts else SymbolicZero.from_primal_value(y)
