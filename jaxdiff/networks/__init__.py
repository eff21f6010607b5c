"""Flax networks. They know nothing of diffusion processes: any function of the same signature can take their place.

Every network is called as `network.apply(variables, x, time, cond=None, key=None)` and returns an array like `x`. A
`key` is given in training: one random key, or one for each example, for dropout.

- `UNet`: signals, images and volumes (`unet.py`, made of `blocks.py`, `attention.py`, `resampling.py`, `norms.py`,
  `dropout.py`, `remat.py`)
- `MLP`: vectors (`mlp.py`)
- `Sinusoidal`, `Fourier`: features of the time input (`embeddings.py`)
- `log_variance.py`: a learned weight of the loss, beside the network

`conditioning.py` joins the label with class and vector conditions; `module.py` is the base class of the networks.
"""

from jaxdiff.networks.embeddings import Fourier, Sinusoidal
from jaxdiff.networks.mlp import MLP
from jaxdiff.networks.unet import UNet

__all__ = ["MLP", "Fourier", "Sinusoidal", "UNet"]
