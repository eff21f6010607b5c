"""Flax networks. They know nothing of diffusion processes: any function with the same signature can replace them.

A network is a component. `network.given(specs)` tells it the conditions of a model, and it is then called as
`network.apply(variables, x, time, cond=None, key=None)`, with `cond` a mapping of names to values. Training passes a
`key` for dropout: one random key, or one key per example.

- `unets/`: `UNet`, for signals, images, volumes and videos; `ControlNet`, a U-Net with a side network that is told a
  picture; `Encoder`, one vector per signal, image or volume, for classifiers and embeddings
- `published/`: published networks by name, such as `published.stable_diffusion_1()`
- `mlp.py`: `MLP`, for vectors. `network.giving(n)` sets the length of the vector of an `Encoder` or an `MLP`
- `autoencoders/`: `ConvAutoencoder`, latents of signals, images and volumes, called as `apply(variables, x)`
- `text/`: `TextTransformer`, one vector per byte of a text, called as `apply(variables, ids, mask)`
- `layers/`: the layers of which they are made, and `Sinusoidal` and `Fourier`, features of the time input
- `own/`: `as_network` makes a network of a Linen module, an NNX module or a pair of functions of your own

`module.py` has the base class `Network` and the `Spec` of a condition, `inputs.py` the checks of arguments, and
`remat.py` the layers that store less for their derivative.
"""

from jaxdiff.extras import needed

with needed("jaxdiff.networks"):
    from jaxdiff.networks.autoencoders.convolutional import ConvAutoencoder
    from jaxdiff.networks.layers.embeddings import Fourier, Sinusoidal
    from jaxdiff.networks.mlp import MLP
    from jaxdiff.networks.own import as_network
    from jaxdiff.networks.text.transformer import TextTransformer
    from jaxdiff.networks.unets.controlnet import ControlNet
    from jaxdiff.networks.unets.encoder import Encoder
    from jaxdiff.networks.unets.unet import UNet

__all__ = [
    "MLP",
    "ControlNet",
    "ConvAutoencoder",
    "Encoder",
    "Fourier",
    "Sinusoidal",
    "TextTransformer",
    "UNet",
    "as_network",
]
