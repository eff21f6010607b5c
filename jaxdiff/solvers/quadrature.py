"""Quadrature: exact integrals of an interpolating polynomial against a kernel, in float64.

A step moves in a variable u. Let v be its progress, 0 at the start of the step and 1 at the end, and let

    m_j = int_0^1 k(v) v^j dv

be the moments of the kernel. The polynomial through the values `F_i` at `v_i` has the integral

    sum_i w_i F_i        with weights that solve        sum_i w_i v_i^j = m_j

Every multistep method consists of such weights. The methods differ in the kernel and in the variable.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np


@functools.cache  # and no constant: `numpy.polynomial` would take a sixth of the time of `import jaxdiff`
def _rule() -> tuple[Any, Any]:
    """The nodes and the weights of Gauss and Legendre on [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(24)
    return (nodes + 1) / 2, weights / 2


def exponential_moments(xp: Any, length: Any, count: int) -> Any:
    """`m_j = length int_0^1 e^{-length (1 - v)} v^j dv` for `j < count`.

    Short steps, with a smooth kernel, use Gauss-Legendre quadrature. Long steps use the recursion
    `m_j = 1 - j/length m_{j-1}`. Both are exact to the last digits of float64, from tiny to infinite lengths.

    Args:
      xp: numpy or jax.numpy.
      length: `[...]`, positive.
      count: the number of moments.

    Returns:
      The moments, `[..., count]`.
    """
    short = xp.minimum(length, 4.0)[..., None]
    nodes, weights = (np.expand_dims(side, tuple(range(short.ndim - 1))) for side in _rule())
    kernel = short * xp.exp(-short * (1 - nodes)) * weights
    quadrature = xp.stack([xp.sum(kernel * nodes**j, axis=-1) for j in range(count)], axis=-1)
    recursion = [-xp.expm1(-length)]
    for j in range(1, count):
        recursion.append(1 - j / xp.maximum(length, 4.0) * recursion[-1])
    smooth = xp.concatenate([recursion[0][..., None], quadrature[..., 1:]], axis=-1)
    return xp.where(length[..., None] < 4.0, smooth, xp.stack(recursion, axis=-1))


def uniform_moments(count: int) -> Any:
    """`m_j = int_0^1 v^j dv = 1/(j + 1)`, `[1, count]`, the same for all steps."""
    return 1 / np.arange(1.0, count + 1)[None]


def moments_of_primitive(xp: Any, primitive: Callable[[Any], Any], end: Any, count: int) -> Any:
    """`m_j = int_0^1 v^j dK(v)` for `1 <= j < count`, from K instead of its derivative.

    By parts the integral is `j int_0^1 v^{j-1} (K(1) - K(v)) dv`. Gauss-Legendre quadrature gives it to the last
    digits where K is smooth, and less exactly where K has kinks.

    Args:
      xp: numpy or jax.numpy.
      primitive: `v -> K(v)`, for v of shape `[..., nodes]`.
      end: `K(1)`, `[...]`.
      count: the number of moments, with the one of j = 0.

    Returns:
      The moments, `[..., count - 1]`.
    """
    nodes, weights = (np.expand_dims(side, tuple(range(end.ndim))) for side in _rule())
    rest = (end[..., None] - primitive(nodes)) * weights
    return xp.stack([xp.sum(j * nodes ** (j - 1) * rest, axis=-1) for j in range(1, count)], axis=-1)


def interpolation_weights(xp: Any, nodes: Any, moments: Any) -> Any:
    """The weights w with `sum_i w_i nodes_i^j = moments_j`; nodes, moments and weights are `[..., q]`."""
    powers = xp.stack([nodes**j for j in range(nodes.shape[-1])], axis=-2)
    return xp.linalg.solve(powers, moments[..., None])[..., 0]
