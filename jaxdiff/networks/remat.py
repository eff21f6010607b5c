"""Rematerialisation: layers that store fewer results for their derivative and compute the others again."""

from typing import Any, Literal

import flax.linen as nn
import jax

Remat = Literal["none", "dots", "blocks"]


def _is_stored(primitive: Any, *shapes: Any, **parameters: Any) -> bool:
    # Products with batch axes belong to attention, whose logits grow with the square of the number of positions.
    no_batch = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
    return primitive is jax.lax.conv_general_dilated_p or no_batch(primitive, *shapes, **parameters)


def rematerialised(layer: type[nn.Module], remat: Remat, loop: bool = False) -> Any:
    """A Linen class like `layer` that stores fewer results for its derivative.

    Parameters, results and derivatives are those of `layer`.

    Args:
      layer: a Linen class.
      remat: `"none"`: `layer` itself. `"dots"`: store the inputs and the results of convolutions and matrix products,
        except those inside attention. `"blocks"`: store only the inputs.
      loop: whether the layer is the body of a loop. The loop itself then keeps the compiler from computing the two
        passes as one, and barriers are not needed.
    """
    if remat == "none":
        return layer
    return nn.remat(layer, policy=_is_stored if remat == "dots" else None, prevent_cse=not loop)
