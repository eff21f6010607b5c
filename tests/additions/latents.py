"""Latents of a linear autoencoder in a file of weights: a codec."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from additions import blobs, small
from jaxdiff.codecs import Codec
from jaxdiff.components import Part
from jaxdiff.conditions import Label
from jaxdiff.models import Diffusion
from jaxdiff.runs.config import Config


@dataclasses.dataclass(frozen=True)
class Linear(Codec):
    """Patches of 2x2 pixels, projected onto three channels.

    Attributes:
      weights: a file of weights with a matrix `e` of orthonormal columns, `[4, 3]`.
    """

    weights: Part

    def load(self, open: Callable[[str], Any]) -> Any:
        return open(self.weights)

    def encode(self, frozen: Any, x: Any, keys: Any = None) -> Any:
        b, h, w, _ = x.shape
        patches = x.reshape(b, h // 2, 2, w // 2, 2).swapaxes(2, 3).reshape(b, h // 2, w // 2, 4)
        return patches @ jnp.asarray(frozen["e"])

    def decode(self, frozen: Any, z: Any) -> Any:
        b, h, w, _ = z.shape
        patches = (z @ jnp.asarray(frozen["e"]).T).reshape(b, h, w, 2, 2)
        return patches.swapaxes(2, 3).reshape(b, 2 * h, 2 * w, 1)


PARTS = {"linear.npz": {"e": np.linalg.qr(np.random.default_rng(1).normal(size=(4, 4)))[0][:, :3].astype(np.float32)}}
CONFIG = Config(
    data=blobs.Blobs(),
    model=Diffusion(network=small.NETWORK, codec=Linear("linear.npz"), conditions={"label": Label()}),
    optimizer=small.OPTIMIZER,
    train=small.TRAIN,
    sample=small.SAMPLE,
)
