"""What the U-Net and the encoder of classifiers have before their first level."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float

from jaxdiff import trees
from jaxdiff.networks.inputs import Cond, check_input, check_levels, compute_types, read_cond, with_planes
from jaxdiff.networks.layers.attention import SelfAttention
from jaxdiff.networks.layers.blocks import ResidualBlock
from jaxdiff.networks.layers.conditioning import Conditioning
from jaxdiff.networks.remat import Remat, rematerialised


class Entrance(NamedTuple):
    """The input of the first convolution, and the layers of all levels.

    Attributes:
      x: the input and the planes, `[batch, *space, channels]`, in the compute type.
      block: a residual block that is told time and conditions: `(h, features, name, **options) -> h`.
      attention: self-attention: `(h, name) -> h`.
      wide: float32, or the wider type of the input.
      dtype: the compute type.
    """

    x: Float[Array, "batch *space channels"]
    block: Callable[..., Array]
    attention: Callable[[Array, str], Array]
    wide: DTypeLike
    dtype: DTypeLike


def enter(
    network: Any,
    x: Float[Array, "batch *space channels"],
    time: ArrayLike,
    cond: Cond,
    key: Any,
    *,
    skip_scale: float = 1.0,
    remat: Remat = "none",
) -> Entrance:
    """Checks the arguments of a network, and embeds time and conditions.

    The function must be called inside a compact method of the network.

    Args:
      network: a `UNet` or an `Encoder`, whose settings are those of the layers.
      x, time, cond, key: the arguments of the network.
      skip_scale: factor of every residual sum.
      remat: the results of the layers that are stored for reverse-mode derivatives.

    Raises:
      ValueError, TypeError: see `UNet`.
    """
    check_levels(x, network.multipliers, network.attention_levels)
    time = check_input(x, time)
    keys = None if key is None else trees.example_keys(key, x.shape[0])
    wide, dtype = compute_types(x, network.dtype)
    given = read_cond(cond, network.specs, x.shape[0], x.shape[1:-1])
    shared: dict[str, Any] = {"norm_groups": network.norm_groups, "norm_eps": network.norm_eps}
    shared |= {"skip_scale": skip_scale, "dtype": dtype}
    residual = partial(
        rematerialised(ResidualBlock, remat), scale_shift=network.scale_shift, dropout=network.dropout, **shared
    )
    attending = partial(rematerialised(SelfAttention, remat), network.head_channels, **shared)
    width = network.channels
    embed = Conditioning(width, 4 * width, network.embedding, network.specs, dtype, name="conditioning")
    e = embed(time, given)

    def block(h: Array, features: int, name: str, **options: Any) -> Array:
        result: Array = residual(features=features, name=name, **options)(h, e, keys)
        return result

    def attention(h: Array, name: str) -> Array:
        result: Array = attending(name=name)(h)
        return result

    return Entrance(with_planes(jnp.asarray(x), given, network.specs, dtype), block, attention, wide, dtype)
