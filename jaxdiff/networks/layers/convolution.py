"""A convolution whose derivatives are as fast as itself on CPUs, within loops too."""

import functools
import itertools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float

from jaxdiff.networks.layers.compressed import promote

# A window of 3 on three axes. Larger windows would make long programs.
_LARGEST_WINDOW = 27


def convolve(
    x: Float[Array, "batch *space channels"],
    kernel: Float[Array, "*window channels features"],
    window_strides: tuple[int, ...],
    padding: Any,
    **options: Any,
) -> Float[Array, "batch *new_space features"]:
    """`jax.lax.conv_general_dilated` for channels on the last axis, as `flax.linen.Conv` calls it.

    Both derivatives are written for XLA's compiler for CPUs:

    - The transpose of a convolution exchanges the two axes of channels in the description of its kernel. The compiler
      brings convolutions into the usual order, but not those within loops, and runs the latter ten times slower.
      In the derivative by `x` the axes are therefore exchanged beforehand, so that its transpose has the usual order.
      Samplers that differentiate a network, as `posterior.mmps` does, loop over such transposes.
    - The derivative by `kernel` is a convolution with a window as large as the image. The compiler's program for it
      takes up to twice as long as the forward pass outside of loops, and up to 67 times as long within them. On CPUs
      it is therefore one matrix product for each row of the window. Other devices keep the convolution.
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
        parts.append(_by_kernel(x, dkernel, options))
    # JAX's own convolution: the policy of `remat.py` knows it by name.
    y = lax.conv_general_dilated(x, kernel, **settings)
    return y, functools.reduce(jnp.add, parts) if parts else SymbolicZero.from_primal_value(y)


# The derivative's transpose stores `x`, and not its shifted copies.
@functools.partial(jax.checkpoint, prevent_cse=False, static_argnums=2)
def _by_kernel(x: Array, dkernel: Array, options: tuple[tuple[str, Any], ...]) -> Array:
    """The convolution as a linear function of its kernel, whose transpose is fast on the device at hand."""
    settings = dict(options)
    plain: Any = functools.partial(lax.conv_general_dilated, **settings)
    dilated = any(n != 1 for name in ("lhs_dilation", "rhs_dilation") for n in settings.get(name) or ())
    grouped = any(settings.get(name, 1) != 1 for name in ("feature_group_count", "batch_group_count"))
    if dilated or grouped or math.prod(dkernel.shape[:-2]) > _LARGEST_WINDOW:
        return plain(x, dkernel)
    products = functools.partial(_products, strides=settings["window_strides"], padding=settings["padding"])
    return lax.platform_dependent(x, dkernel, cpu=products, default=plain)


def _products(x: Array, kernel: Array, strides: tuple[int, ...], padding: Any) -> Array:
    """A convolution as the sum of one matrix product for each row of the window.

    A product applies all places of a row at once, and their results are shifted afterwards. Its transpose then reads
    copies of `x` that are shifted by rows and one array of copies of the result's derivative that are shifted within
    rows: fewer copies and larger products than with one product for each place. The products have two axes each, since
    XLA's products over several axes at once are slow on CPUs.
    """
    *window, channels, features = kernel.shape
    pads = lax.padtype_to_pads(x.shape[1:-1], window, strides, padding) if isinstance(padding, str) else padding
    space = [(n + sum(p) - w) // s + 1 for n, p, w, s in zip(x.shape[1:-1], pads, window, strides, strict=True)]
    if strides[-1] != 1:  # Shifts within rows pass over results: a last axis of size 1 makes each place a row.
        x, window, strides, pads = x[..., None, :], [*window, 1], (*strides, 1), (*pads, (0, 0))
    zero, width, columns = jnp.zeros((), x.dtype), x.shape[-2], window[-1]
    x = lax.pad(x, zero, [(0, 0, 0), *((*ends, 0) for ends in pads[:-1]), (0, 0, 0), (0, 0, 0)])
    kernel = jnp.moveaxis(kernel.reshape(-1, columns, channels, features), 1, 2).reshape(-1, columns * features)
    total = zero
    rows = lax.split(kernel, (channels,) * math.prod(window[:-1]))
    for place, row in zip(itertools.product(*map(range, window[:-1])), rows, strict=True):
        ends = [start + (n - 1) * s + 1 for start, n, s in zip(place, space[: len(place)], strides[:-1], strict=True)]
        seen = lax.slice(x, (0, *place, 0, 0), (len(x), *ends, width, channels), (1, *strides[:-1], 1, 1))
        total = total + seen.reshape(-1, channels) @ row
    parts = lax.split(total.reshape(-1, width, columns * features), (features,) * columns, axis=2)
    low, high = pads[-1]
    y = zero
    for column, part in enumerate(parts):
        y = y + lax.pad(part, zero, [(0, 0, 0), (low - column, high - columns + 1 + column, 0), (0, 0, 0)])
    return y.reshape(len(x), *space, features)


class Conv(nn.Conv):
    """`flax.linen.Conv` with the faster derivatives, and kernels that may be compressed."""

    conv_general_dilated: Any = convolve
    promote_dtype: Any = promote
