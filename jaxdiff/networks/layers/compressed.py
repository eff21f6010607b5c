"""Kernels that are stored in few bits, and are expanded in the layer that uses them."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jaxtyping import Array, Float, Int

from jaxdiff import trees


class Compressed:
    """A kernel of integers, in the place of an array of floats. `models.compressed` makes it.

    JAX's functions and Flax's layers expand it when they read it.
    """

    values: Int[Array, "*window in out"]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the kernel."""
        return self.values.shape

    @property
    def ndim(self) -> int:
        """The number of axes of the kernel."""
        return self.values.ndim

    @property
    def dtype(self) -> Any:
        """The type of the expanded kernel."""
        return jnp.dtype("float32")

    def __jax_array__(self) -> Float[Array, "*window in out"]:
        raise NotImplementedError


@trees.register
@dataclasses.dataclass(frozen=True)
class Bfloat16(Compressed):
    """A kernel of bfloat16 as its bits: compilers move a conversion of short floats, and not one of integers."""

    values: Int[Array, "*window in out"]

    def __jax_array__(self) -> Float[Array, "*window in out"]:
        return jax.lax.bitcast_convert_type(self.values, jnp.bfloat16).astype(self.dtype)


@trees.register
@dataclasses.dataclass(frozen=True)
class Int8(Compressed):
    """A kernel of bytes with one scale for each output."""

    values: Int[Array, "*window in out"]
    scale: Float[Array, "*ones out"]

    def __jax_array__(self) -> Float[Array, "*window in out"]:
        return self.values.astype(self.dtype) * self.scale


def promote(x: Array, kernel: Any, bias: Any, *, dtype: Any = None) -> Any:
    """`flax.linen.dtypes.promote_dtype` of a layer, with a compressed kernel expanded when the input `x` is known.

    Kernels do not change in the loop of a sampler. XLA would expand all of them once, before the loop, and keep the
    large copies. An expansion that waits for `x` has to happen within the loop, layer by layer. XLA's compiler for CPUs
    removes `jax.lax.optimization_barrier` too early, so that the expansion waits for a number of `x` instead, by a
    comparison that is always false.
    """
    if isinstance(kernel, Compressed):
        never = jax.lax.stop_gradient(x[(0,) * x.ndim]) > jnp.inf
        tied: Any = dataclasses.replace(kernel, values=jnp.where(never, 0, kernel.values))  # type: ignore[type-var]
        kernel = jnp.asarray(tied)
    return promote_dtype(x, kernel, bias, dtype=dtype)
