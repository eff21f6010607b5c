"""What the U-Net and the encoder of classifiers have before their first level."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, Key

from jaxdiff import trees
from jaxdiff.networks.inputs import Cond, check_input, check_levels, compute_types, read_cond, with_planes
from jaxdiff.networks.layers.blocks import ResidualBlock
from jaxdiff.networks.layers.conditioning import Conditioning, Vectors
from jaxdiff.networks.remat import Remat, rematerialised


class Entrance(NamedTuple):
    """The arguments of a network, checked and embedded.

    Attributes:
      x: the input and the planes, in the compute type. The frames of videos are part of the batch: `[batch * frames,
        *space, channels]`.
      embedding: the embedding of time and conditions, for every frame.
      keys: one key per frame for dropout; None for no dropout.
      given: the conditions by name, one per example.
      frames: the number of frames of a video; None for a network without time attention.
      wide: float32, or the wider type of the input.
      dtype: the compute type.
    """

    x: Float[Array, "batch *space channels"]
    embedding: Float[Array, "batch width"]
    keys: Key[Array, " batch"] | None
    given: dict[str, Any]
    frames: int | None
    wide: DTypeLike
    dtype: DTypeLike


def enter(
    network: Any,
    x: Float[Array, "batch *space channels"],
    time: ArrayLike,
    cond: Cond,
    key: Any,
    *,
    embedding_features: int | None = None,
    vectors: Vectors = "input",
    temporal: bool = False,
) -> Entrance:
    """Checks the arguments of a network, and embeds time and conditions.

    The function must be called inside a compact method of the network.

    Args:
      network: a `UNet` or an `Encoder`, whose settings are those of the layers.
      x, time, cond, key: the arguments of the network.
      embedding_features: the number of features of the time input, a quarter of the width of the embedding; None for
        the channels of the network.
      vectors: where vectors enter; see `Conditioning`.
      temporal: whether x has frames, `[batch, frames, height, width, channels]`. An image is a video of one frame.

    Raises:
      ValueError, TypeError: see `UNet`.
    """
    check_levels(x, network.multipliers, network.attention_levels, temporal=temporal)
    time = check_input(x, time)
    keys = None if key is None else trees.example_keys(key, x.shape[0])
    wide, dtype = compute_types(x, network.dtype)
    given = read_cond(cond, network.specs, x.shape[0], x.shape[1:-1])
    features = network.channels if embedding_features is None else embedding_features
    embed = Conditioning(features, 4 * features, network.embedding, network.specs, dtype, vectors, name="conditioning")
    e = embed(time, given)
    h, frames = with_planes(x, given, network.specs, dtype), None
    if temporal:
        frames = x.shape[1] if x.ndim == 5 else 1
        h, e = h.reshape(-1, *h.shape[-3:]), jnp.repeat(e, frames, axis=0)
        if keys is not None:
            each = jax.vmap(lambda key: jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(frames)))
            keys = each(keys).reshape(-1)
    return Entrance(h, e, keys, given, frames, wide, dtype)


def residual_blocks(
    network: Any, entrance: Entrance, *, skip_scale: float = 1.0, remat: Remat = "none"
) -> Callable[..., Array]:
    """Residual blocks that are told time and conditions: a function `(h, features, name, **options) -> h`.

    Args:
      network: a `UNet` or an `Encoder`, whose settings are those of the blocks.
      entrance: the arguments of the network.
      skip_scale: factor of every residual sum.
      remat: the results that are stored for reverse-mode derivatives.
    """
    make = partial(
        rematerialised(ResidualBlock, remat),
        norm_groups=network.norm_groups,
        norm_eps=network.norm_eps,
        scale_shift=network.scale_shift,
        dropout=network.dropout,
        skip_scale=skip_scale,
        dtype=entrance.dtype,
    )

    def block(h: Array, features: int, name: str, **options: Any) -> Array:
        result: Array = make(features=features, name=name, **options)(h, entrance.embedding, entrance.keys)
        return result

    return block
