"""Rematerialisation: what a layer keeps for its derivative, and what is computed again."""

from typing import Any, Literal

import flax.linen as nn
import jax

Remat = Literal["none", "dots", "blocks"]


def _products(primitive: Any, *shapes: Any, **parameters: Any) -> bool:
    # A product with batch axes is one of attention, whose logits grow with the square of the number of positions.
    no_batch = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
    return primitive is jax.lax.conv_general_dilated_p or no_batch(primitive, *shapes, **parameters)


def rematerialised(layer: type[nn.Module], remat: Remat) -> Any:
    """The Linen class `layer`, with the same parameters, results and derivatives, that keeps less for its derivative.

    `remat` is `"none"`: what differentiation keeps of itself; `"dots"`: the inputs, and the results of convolutions
    and matrix products but those of attention; or `"blocks"`: only the inputs.
    """
    if remat == "none":
        return layer
    policy = _products if remat == "dots" else None
    return nn.remat(layer, policy=policy)
