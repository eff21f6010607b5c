"""Flax networks. They know nothing of diffusion processes: any function with the same signature can replace them.

Every network is called as `network.apply(variables, x, time, cond=None, key=None)` and returns an array like `x`.
Training passes a `key` for dropout: one random key, or one key per example.

- `UNet`: for signals, images and volumes (`unet.py`, built from `blocks.py`, `attention.py`, `resampling.py`,
  `norms.py`, `dropout.py` and `remat.py`)
- `MLP`: for vectors (`mlp.py`)
- `Sinusoidal`, `Fourier`: features of the time input (`embeddings.py`)
- `log_variance.py`: a learned weight of the loss, trained beside the network

`conditioning.py` combines time, class, vector and augmentation features. `module.py` is the base class of the networks.
"""

from jaxdiff.networks.embeddings import Fourier, Sinusoidal
from jaxdiff.networks.mlp import MLP
from jaxdiff.networks.unet import UNet

__all__ = ["MLP", "Fourier", "Sinusoidal", "UNet"]
