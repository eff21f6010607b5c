"""Latents of a frozen autoencoder."""

import dataclasses
from collections.abc import Callable
from typing import Any

from jaxtyping import Array, Key, PyTree

from jaxdiff.checks import message
from jaxdiff.codecs.codec import Codec
from jaxdiff.components import Part


@dataclasses.dataclass(frozen=True)
class Latents(Codec):
    """The latents of a trained autoencoder, with mean 0 and standard deviation 1 in each channel.

    Latent diffusion: Rombach et al. 2022 (arXiv 2112.10752). The autoencoder measures the mean and the standard
    deviation of its latents while it is trained. Latents with a distribution are drawn in training, and are their mean
    elsewhere.

    Attributes:
      run: the run directory of the autoencoder.
    """

    run: Part

    def load(self, open: Callable[[str], Any]) -> Any:
        model = open(self.run)
        if not (hasattr(model, "encode") and hasattr(model, "decode")):
            raise ValueError(message("run", self.run, f"runs of an autoencoder; this one is a {type(model).__name__}"))
        return model

    def encode(self, frozen: Any, x: PyTree, keys: Key[Array, " batch"] | None = None) -> PyTree:
        return (frozen.encode(x, keys) - frozen.mean) / frozen.std

    def decode(self, frozen: Any, z: PyTree) -> PyTree:
        return frozen.decode(z * frozen.std + frozen.mean)
