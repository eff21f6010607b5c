"""Flax networks. They know nothing of diffusion processes: any function with the same signature can replace them.

A network is a component. `network.given(specs)` tells it the conditions of a model, and it is then called as
`network.apply(variables, x, time, cond=None, key=None)`, with `cond` a mapping of names to values. Training passes a
`key` for dropout: one random key, or one key per example.

- `UNet`: for signals, images and volumes (`unet.py`); `MLP`: for vectors (`mlp.py`)
- `Encoder`: one vector per signal, image or volume, for classifiers and embeddings (`encoder.py`); `network.giving(n)`
  sets the length of the vector of an `Encoder` or an `MLP`
- `ConvAutoencoder`: latents of signals, images and volumes (`autoencoder.py`), called as `apply(variables, x)`
- `TextTransformer`: one vector per byte of a text (`text_transformer.py`), called as `apply(variables, ids, mask)`
- `Sinusoidal`, `Fourier`: features of the time input (`embeddings.py`)
- `log_variance.py`: a learned weight of the loss, trained beside the network

`as_network` makes a network of a Linen module, an NNX module or a pair of functions of your own (`own/`).

`module.py` has the base class `Network` and the `Spec` of a condition. `inputs.py` checks arguments, `conditioning.py`
embeds time, classes and vectors, and `entrance.py` is the beginning of `UNet` and `Encoder`. The layers are in
`blocks.py`, `attention.py`, `resampling.py`, `norms.py`, `dropout.py` and `remat.py`.
"""

from jaxdiff.extras import needed

with needed("jaxdiff.networks"):
    from jaxdiff.networks.autoencoder import ConvAutoencoder
    from jaxdiff.networks.embeddings import Fourier, Sinusoidal
    from jaxdiff.networks.encoder import Encoder
    from jaxdiff.networks.mlp import MLP
    from jaxdiff.networks.own import as_network
    from jaxdiff.networks.text_transformer import TextTransformer
    from jaxdiff.networks.unet import UNet

__all__ = ["MLP", "ConvAutoencoder", "Encoder", "Fourier", "Sinusoidal", "TextTransformer", "UNet", "as_network"]
