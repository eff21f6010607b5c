"""The weights of the tiny autoencoders of github madebyollin/taesd, from the state dicts of encoder and decoder."""

import re
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxdiff.checks import require
from jaxdiff.interop.layout import Layout, from_foreign
from jaxdiff.networks import TinyAutoencoder

_LEVELS = 4


def taesd(encoder: Mapping[str, np.ndarray], decoder: Mapping[str, np.ndarray]) -> tuple[TinyAutoencoder, PyTree]:
    """The tiny autoencoder of two state dicts, and its variables.

    Raises:
      ValueError: the arrays are not those of such an autoencoder with 8 times fewer pixels to a side.
    """
    latents = encoder.get("14.bias")
    require(latents is not None, "names of arrays", sorted(encoder)[:4], "those of an encoder of taesd, with 14.bias")
    assert latents is not None
    network = TinyAutoencoder(latent_channels=len(latents), pooled="11.pool.0.weight" in encoder)
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))["params"]
    halves = {
        "encoder": from_foreign(shapes["encoder"], encoder, _layout(_places(network.num_blocks, up=False))),
        "decoder": from_foreign(shapes["decoder"], decoder, _layout(_places(network.num_blocks, up=True))),
    }
    return network, {"params": halves}


def _places(num_blocks: int, up: bool) -> dict[str, int]:
    """The place of each of our layers in the sequence there."""
    if up:
        order = ["bound", "conv_in", "relu"]
        for level in reversed(range(1, _LEVELS)):
            blocks = [f"up_{level}_block_{i}" for i in range(num_blocks)]
            order += [*blocks, f"up_{level}_double", f"up_{level}_resample"]
        order += ["up_0_block_0", "conv_out"]
    else:
        order = ["conv_in", "down_0_block_0"]
        for level in range(1, _LEVELS):
            order += [f"down_{level}_resample", *(f"down_{level}_block_{i}" for i in range(num_blocks))]
        order += ["conv_out"]
    return {name: place for place, name in enumerate(order)}


def _layout(places: Mapping[str, int]) -> Layout:
    inside = {"conv_0": "conv.0", "conv_1": "conv.2", "conv_2": "conv.4"}
    inside |= {"pool_in": "pool.0", "pool_norm": "pool.1", "pool_out": "pool.3"}
    leaves = {"kernel": "weight", "scale": "weight", "bias": "bias"}

    def names(name: str) -> tuple[str, ...]:
        layer, leaf = name.rsplit(".", 1)
        block = re.fullmatch(r"(.+_block_\d+)_(\w+)", layer)
        place = f"{places[block[1]]}.{inside[block[2]]}" if block else f"{places[layer]}"
        return (f"{place}.{leaves[leaf]}",)

    return names
