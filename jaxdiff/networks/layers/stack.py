"""A stack of equal layers: one set of parameters with an axis of layers, and one loop over them."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree

Body = Callable[[nn.Module, PyTree, Int[Array, ""], PyTree], tuple[PyTree, PyTree]]


def stack(
    layer: nn.Module,
    depth: int,
    body: Body,
    carry: PyTree,
    inputs: PyTree = None,
    *,
    first: int = 0,
    unroll: bool = False,
) -> tuple[PyTree, PyTree]:
    """Applies `depth` layers of equal structure, one after the other.

        carry, output_i = body(layer_i, carry, first + i, inputs_i)        i = 0 .. depth - 1

    Every parameter of the layers is one array `[depth, ...]`, and the program is one loop. Its size and the time of its
    compilation do not grow with the depth. Each layer starts at random numbers of its own. The function must be called
    inside a compact method. The name of the layer should be `layers` or end with `_layers`, since shardings and
    optimisers know the axis of layers by it (`trees.is_stacked`).

    Args:
      layer: the layer, a Linen module of the calling method.
      depth: the number of layers. Without layers, nothing is called.
      body: calls the layer. It may use arrays of the caller, which are the same for all layers.
      carry: what each layer changes.
      inputs: what differs from layer to layer, leaves `[depth, ...]`; None for nothing.
      first: the number of the first layer.
      unroll: whether the program holds all layers and no loop. Parameters and results are the same.

    Returns:
      The last carry, and the outputs, leaves `[depth, ...]`.
    """

    def step(layer: nn.Module, carry: PyTree, scanned: tuple[Int[Array, ""], PyTree]) -> tuple[PyTree, PyTree]:
        return body(layer, carry, *scanned)

    if depth == 0:
        return carry, None
    scan: Any = nn.scan(
        step,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        length=depth,
        unroll=depth if unroll else 1,
    )
    found: tuple[PyTree, PyTree] = scan(layer, carry, (first + jnp.arange(depth), inputs))
    return found
