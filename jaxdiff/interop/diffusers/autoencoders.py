"""`AutoencoderKL` and `AutoencoderTiny` of diffusers as our autoencoders."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxdiff.interop.diffusers.names import ATTENTION, LEAVES, RESIDUAL, renamed
from jaxdiff.interop.diffusers.settings import Settings
from jaxdiff.interop.layout import Layout, from_foreign
from jaxdiff.interop.taesd import taesd
from jaxdiff.networks import KLAutoencoder, TinyAutoencoder

_IGNORED = ("sample_size", "force_upcast", "latents_mean", "latents_std")


class Autoencoder(NamedTuple):
    """An autoencoder, its variables, and the numbers that bring its latents to the scale of diffusion models.

    Attributes:
      network: the network.
      variables: its variables.
      scale, shift: a model works on `(z - shift) scale`.
    """

    network: KLAutoencoder | TinyAutoencoder
    variables: PyTree
    scale: float
    shift: float


def autoencoder(config: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> Autoencoder:
    """The autoencoder of a `config.json` and its arrays.

    Raises:
      ValueError: the configuration has a value that ours does not, or the arrays do not fit it.
    """
    settings = Settings(config)
    if settings.known("_class_name", ("AutoencoderKL", "AutoencoderTiny"), "AutoencoderKL") == "AutoencoderTiny":
        return _tiny(settings, tensors)
    widths = settings.lengths("block_out_channels", (64,))
    if any(width % widths[0] for width in widths):
        raise settings.refuse("block_out_channels", "lists of multiples of their first number")
    for name, kind in (("down_block_types", "DownEncoderBlock2D"), ("up_block_types", "UpDecoderBlock2D")):
        if settings.kinds(name) != [kind] * len(widths):
            raise settings.refuse(name, f"{len(widths)} times {kind}")
    settings.known("act_fn", ("silu", "swish"), "silu")
    projections = {bool(settings.get(name, True)) for name in ("use_quant_conv", "use_post_quant_conv")}
    if len(projections) > 1:
        raise settings.refuse("use_quant_conv", "the value of use_post_quant_conv")
    network = KLAutoencoder(
        channels=widths[0],
        multipliers=tuple(width // widths[0] for width in widths),
        num_blocks=settings.length("layers_per_block", 1),
        latent_channels=settings.length("latent_channels", 4),
        mid_attention=settings.known("mid_block_add_attention", (True, False), True),
        latent_projection=projections.pop(),
        norm_groups=settings.length("norm_num_groups", 32),
    ).giving(settings.length("in_channels", 3))
    settings.known("out_channels", (network.data_channels,), 3)
    scale, shift = settings.number("scaling_factor", 0.18215), settings.get("shift_factor")
    settings.finish(_IGNORED)
    side = 2 ** (len(widths) - 1)
    shape = (1, side, side, network.data_channels)
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros(shape))["params"]
    params = from_foreign(shapes, renamed(tensors), _layout(len(widths)))
    return Autoencoder(network, {"params": params}, scale, float(shift or 0.0))


def _layout(levels: int) -> Layout:
    whole = {"encoder_out": "quant_conv", "decoder_in": "post_quant_conv"}
    ends = {"conv_in": "conv_in", "norm_out": "conv_norm_out", "conv_out": "conv_out"}

    def names(name: str) -> tuple[str, ...]:
        path, leaf = name.rsplit(".", 1)
        ending = LEAVES[leaf]
        if path in whole:
            return (f"{whole[path]}.{ending}",)
        half, layer = path.split(".", 1)
        if layer in ends:
            return (f"{half}.{ends[layer]}.{ending}",)
        if found := re.fullmatch(r"mid_block_(\d)\.(\w+)", layer):
            return (f"{half}.mid_block.resnets.{found[1]}.{RESIDUAL[found[2]]}.{ending}",)
        if found := re.fullmatch(r"mid_attention\.(\w+)", layer):
            return tuple(f"{half}.mid_block.attentions.0.{part}.{ending}" for part in ATTENTION[found[1]])
        if found := re.fullmatch(r"(down|up)_(\d+)_(?:block_(\d+)\.(\w+)|resample)", layer):
            block = int(found[2]) if found[1] == "down" else levels - 1 - int(found[2])
            inside = f"{found[1]}samplers.0.conv" if found[3] is None else f"resnets.{found[3]}.{RESIDUAL[found[4]]}"
            return (f"{half}.{found[1]}_blocks.{block}.{inside}.{ending}",)
        raise ValueError(f"the autoencoder has a layer without a place in diffusers: {path}")

    return names


def _tiny(settings: Settings, tensors: Mapping[str, np.ndarray]) -> Autoencoder:
    """A tiny autoencoder, whose sequences have the places of the original with another beginning of the decoder."""
    halves: dict[str, dict[str, np.ndarray]] = {"encoder": {}, "decoder": {}}
    for name, array in tensors.items():
        half, _, rest = name.partition(".layers.")
        if half not in halves or not rest:
            raise ValueError(f"the weights have an array without a place in the network: {name!r}")
        number, _, tail = rest.partition(".")
        # The original decoder begins with a layer that bounds latents; here a function does it.
        halves[half][f"{int(number) + (half == 'decoder')}.{tail}" if number.isdigit() else rest] = array
    network, variables = taesd(halves["encoder"], halves["decoder"])
    settings.known("act_fn", ("relu",), "relu")
    if settings.lengths("encoder_block_out_channels", (64,) * 4) != (64,) * 4:
        raise settings.refuse("encoder_block_out_channels", "64, 64, 64, 64")
    return Autoencoder(network, variables, settings.number("scaling_factor", 1.0), 0.0)
