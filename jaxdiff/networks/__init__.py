"""Flax networks. They know nothing of diffusion processes: any function with the same signature can replace them.

A network is a component. `network.given(specs)` tells it the conditions of a model, and it is then called as
`network.apply(variables, x, time, cond=None, key=None)`, with `cond` a mapping of names to values. Training passes a
`key` for dropout: one random key, or one key per example.

- `unets/`: `UNet`, for signals, images, volumes and videos; `ControlNet`, a U-Net with a side network that is told a
  picture; `EDM2`, a U-Net that preserves magnitudes; `Encoder`, one vector per signal, image or volume, for classifiers
  and embeddings
- `transformers/`: `DiT`, for signals, images and videos in patches; `MMDiT`, whose data and text attend to each other;
  `JiT`, for large patches of pixels
- `lora.py`: `LoRA`, any network with adapters of low rank, which alone are trained
- `mlp.py`: `MLP`, for vectors. `network.giving(n)` sets the length of the vector of an `Encoder` or an `MLP`
- `autoencoders/`: latents of signals, images and volumes, called as `apply(variables, x)`: `ConvAutoencoder`, the plain
  one; `KLAutoencoder`, that of latent diffusion; `TinyAutoencoder`, a small one that imitates its latents
- `features/`: `TinyDarknet`, features of pictures
- `text/`: one vector per token of a text, called as `apply(variables, ids, mask)`: `TextTransformer`, over bytes;
  `CLIPText`, `T5Encoder` and `BERT`, whose published weights `jaxdiff.interop` reads
- `graphs/`: `EGNN`, for sets of points in space, whose output turns with its points
- `layers/`: the layers of which they are made; `Sinusoidal`, `Fourier` and `MPFourier`, features of the time input; and
  `SinCosPositions`, `LearnedPositions` and `Rope`, positions of tokens
- `published/`: the networks of publications, such as `published.dit_xl()`
- `own/`: `as_network` makes a network of a Linen module, an NNX module or a pair of functions of your own

`module.py` has the base class `Network` and the `Spec` of a condition, `inputs.py` the checks of arguments, and
`remat.py` the layers that store less for their derivative.
"""

from jaxdiff.extras import needed

with needed("jaxdiff.networks"):
    from jaxdiff.networks.autoencoders.convolutional import ConvAutoencoder
    from jaxdiff.networks.autoencoders.kl import KLAutoencoder
    from jaxdiff.networks.autoencoders.tiny import TinyAutoencoder
    from jaxdiff.networks.features.tiny_darknet import TinyDarknet
    from jaxdiff.networks.graphs.egnn import EGNN
    from jaxdiff.networks.layers.embeddings import Fourier, MPFourier, Sinusoidal
    from jaxdiff.networks.layers.positions import LearnedPositions, SinCosPositions
    from jaxdiff.networks.layers.rotary import Rope
    from jaxdiff.networks.lora import LoRA
    from jaxdiff.networks.mlp import MLP
    from jaxdiff.networks.own import as_network
    from jaxdiff.networks.text.bert import BERT
    from jaxdiff.networks.text.clip import CLIPText
    from jaxdiff.networks.text.t5 import T5Encoder
    from jaxdiff.networks.text.transformer import TextTransformer
    from jaxdiff.networks.transformers.dit import DiT
    from jaxdiff.networks.transformers.jit import JiT
    from jaxdiff.networks.transformers.mmdit import MMDiT
    from jaxdiff.networks.unets.controlnet import ControlNet
    from jaxdiff.networks.unets.edm2 import EDM2
    from jaxdiff.networks.unets.encoder import Encoder
    from jaxdiff.networks.unets.unet import UNet

__all__ = [
    "BERT",
    "EDM2",
    "EGNN",
    "MLP",
    "CLIPText",
    "ControlNet",
    "ConvAutoencoder",
    "DiT",
    "Encoder",
    "Fourier",
    "JiT",
    "KLAutoencoder",
    "LearnedPositions",
    "LoRA",
    "MMDiT",
    "MPFourier",
    "Rope",
    "SinCosPositions",
    "Sinusoidal",
    "T5Encoder",
    "TextTransformer",
    "TinyAutoencoder",
    "TinyDarknet",
    "UNet",
    "as_network",
]
