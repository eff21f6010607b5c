"""Operations that preserve magnitudes, and layers whose weights have a fixed norm (Karras et al. 2024, EDM2).

The magnitude of an array is the root mean square of its entries. The functions preserve a magnitude of 1 for arguments
that are independent and normal. Equation numbers are those of arXiv 2312.02696.
"""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PyTree

from jaxdiff.networks.layers.convolution import convolve


def to_unit_magnitude(x: Array, axes: tuple[int, ...], tol: float = 1e-4) -> Array:
    """`x / (m + tol)`, with the magnitude m over `axes` in float32 or wider. The default of `tol` is the paper's."""
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    square = jnp.square(wide).mean(axis=axes, keepdims=True)
    # The root of zero has no derivative.
    return (wide / (jnp.sqrt(jnp.maximum(square, 1e-30)) + tol)).astype(x.dtype)


def mp_silu(x: Array) -> Array:
    """`silu(x) / 0.596` (equation 81). The divisor is the magnitude of `silu(x)` for normal x."""
    return nn.silu(x) / 0.596


def mp_sum(a: Array, b: Array, t: float) -> Array:
    """`((1 - t) a + t b) / sqrt((1 - t)^2 + t^2)` (equation 88)."""
    return ((1 - t) * a + t * b) / math.hypot(1 - t, t)


def mp_cat(a: Array, b: Array, t: float) -> Array:
    """Joins the channels of a and b, so that b contributes the share t of what follows (equation 103).

    sqrt((N_a + N_b) / ((1 - t)^2 + t^2)) [(1 - t) a / sqrt(N_a), t b / sqrt(N_b)]
    """
    n_a, n_b = a.shape[-1], b.shape[-1]
    scale = math.sqrt(n_a + n_b) / math.hypot(1 - t, t)
    return jnp.concatenate([a * (scale * (1 - t) / math.sqrt(n_a)), b * (scale * t / math.sqrt(n_b))], axis=-1)


def project_weights(params: PyTree) -> PyTree:
    """Forced weight normalisation (equation 66): the weights of every output get the magnitude 1.

    Args:
      params: parameters, in which every leaf of the name `kernel` is a weight `[..., out]`. Others do not change.
    """

    def project(path: tuple[Any, ...], leaf: Array) -> Array:
        return to_unit_magnitude(leaf, _inputs(leaf), 0.0) if getattr(path[-1], "key", None) == "kernel" else leaf

    projected: PyTree = jax.tree.map_with_path(project, params)
    return projected


class MPWeights(nn.Module):
    """Linear layer without bias that preserves magnitudes: a dense layer or a convolution (equation 47).

        y = gain W x        W = kernel / |kernel|, with the norm of the weights of every output

    The derivative of a weight is therefore orthogonal to it. The kernel starts with the magnitude 1, and
    `project_weights` brings it back there.

    Attributes:
      features: channels of the result.
      window: the shape of the window of a convolution, of odd lengths; empty for a dense layer.
      dtype: compute type; parameters are float32.
    """

    features: int
    window: tuple[int, ...]
    dtype: DTypeLike

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch *space channels"], gain: Float[Array, ""] | float = 1.0
    ) -> Float[Array, "batch *space features"]:
        """Applies the layer."""
        kernel = unit_weights(self, (*self.window, x.shape[-1], self.features))
        wide = jnp.promote_types(self.dtype, jnp.float32)
        kernel = (kernel.astype(wide) * gain / math.sqrt(math.prod(kernel.shape[:-1]))).astype(self.dtype)
        x = x.astype(self.dtype)
        if not self.window:
            return x @ kernel
        last = x.ndim - 1
        order = (0, last, *range(1, last))
        numbers = lax.ConvDimensionNumbers(order, (last, last - 1, *range(last - 1)), order)
        return convolve(x, kernel, (1,) * len(self.window), "SAME", dimension_numbers=numbers)


class MPTable(nn.Module):
    """A row of weights per class: an `MPWeights` layer of one-hot vectors of magnitude 1.

    Attributes:
      rows: the number of classes.
      features: length of a row.
      dtype: compute type; parameters are float32.
    """

    rows: int
    features: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, index: Array) -> Float[Array, "batch features"]:
        """The rows `index`; NaN for an index above the last."""
        table = unit_weights(self, (self.rows, self.features))
        return jnp.take(table, index, axis=0, mode="fill").astype(self.dtype)


def unit_weights(module: nn.Module, shape: tuple[int, ...]) -> Array:
    """The parameter `kernel` of a module, and its weights `[..., out]`, those of every output with the magnitude 1."""

    def init(key: Array, shape: tuple[int, ...]) -> Array:
        normal = jax.random.normal(key, shape)
        return to_unit_magnitude(normal, _inputs(normal), 0.0)

    kernel = jnp.asarray(module.param("kernel", init, shape))
    return to_unit_magnitude(kernel, _inputs(kernel))


def _inputs(kernel: Array) -> tuple[int, ...]:
    return tuple(range(kernel.ndim - 1))
