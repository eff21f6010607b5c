"""The networks of diffusers by the names of their classes."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxdiff.checks import require
from jaxdiff.interop.diffusers.names import renamed
from jaxdiff.interop.diffusers.settings import Settings
from jaxdiff.interop.diffusers.transformers import dit, dit_layout, dit_tensors, mmdit, mmdit_layout
from jaxdiff.interop.diffusers.unets import layout, unet
from jaxdiff.interop.layout import Layout
from jaxdiff.networks import DiT, MMDiT, UNet

Weights = Callable[[], dict[str, np.ndarray]]


class Denoiser(NamedTuple):
    """A network of diffusers that denoises.

    Attributes:
      network: the network, without its conditions.
      tensors: its arrays by the names of the layout.
      layout: the names.
      channels: the number of channels of its data.
      classes: the number of classes that the network is told; 0 for a network that is told none.
    """

    network: UNet | DiT | MMDiT
    tensors: Mapping[str, np.ndarray]
    layout: Layout
    channels: int
    classes: int = 0


def denoiser(config: Mapping[str, Any], weights: Weights) -> Denoiser:
    """The network of a configuration.

    Args:
      config: the entries of its `config.json`.
      weights: gives its arrays. They are read after the configuration is found to be good.

    Raises:
      ValueError: the configuration has a value that ours does not, or arrays are missing.
    """
    kind = Settings(config).known("_class_name", tuple(_READERS), None)
    return _READERS[kind](config, weights)


def _unet(config: Mapping[str, Any], weights: Weights) -> Denoiser:
    network, given = unet(config), config.get("num_class_embeds")
    channels, tensors = Settings(config).length("in_channels", 3), renamed(weights())
    if given is not None:
        # The number of rows bounds the number of classes, which a hostile file could make as large as it likes.
        table = tensors.get("class_embedding.weight", np.zeros(0))
        good = type(given) is int and 0 < given == len(np.atleast_1d(table))
        require(good, "config.json: num_class_embeds", given, "the number of classes in the weights")
        # Our tables have a row for no class. There is none, and zero adds nothing.
        tensors["class_embedding.weight"] = np.concatenate([table, np.zeros_like(table[:1])])
    reads_text = config.get("_class_name") == "UNet2DConditionModel"
    return Denoiser(network, tensors, layout(len(network.multipliers), context=reads_text), channels, given or 0)


def _dit(config: Mapping[str, Any], weights: Weights) -> Denoiser:
    network, settings = dit(config), Settings(config)
    classes, channels = settings.length("num_embeds_ada_norm", 1000), settings.length("in_channels", 4)
    return Denoiser(network, dit_tensors(weights(), network.depth), dit_layout(), channels, classes)


def _mmdit(config: Mapping[str, Any], weights: Weights) -> Denoiser:
    network, tensors = mmdit(config, weights())
    return Denoiser(network, tensors, mmdit_layout(network), Settings(config).length("in_channels", 16))


_READERS: dict[str, Callable[[Mapping[str, Any], Weights], Denoiser]] = {
    "UNet2DModel": _unet,
    "UNet2DConditionModel": _unet,
    "DiTTransformer2DModel": _dit,
    "SD3Transformer2DModel": _mmdit,
}
