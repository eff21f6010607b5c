"""Data with mean 0 and standard deviation 1."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key, PyTree

from jaxdiff.checks import positive, require
from jaxdiff.codecs.codec import Codec


@dataclasses.dataclass(frozen=True)
class Standardised(Codec):
    """The data minus a mean, divided by a standard deviation: `z = (x - mean)/std`.

    Of several fields, all are standardised by the same numbers.

    Attributes:
      mean: the mean of all numbers, or one mean for each channel of the last axis.
      std: the standard deviation, in the same form.
    """

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        for value in self.std:
            positive("std", value)

    def encode(self, frozen: Any, x: PyTree, keys: Key[Array, " batch"] | None = None) -> PyTree:
        mean, std = self._of(x)
        return jax.tree.map(lambda leaf: (leaf - mean) / std, x)

    def decode(self, frozen: Any, z: PyTree) -> PyTree:
        mean, std = self._of(z)
        return jax.tree.map(lambda leaf: leaf * std + mean, z)

    def _of(self, x: PyTree) -> tuple[Array, Array]:
        """The mean and the standard deviation as arrays, which change no shape of `x`."""
        for leaf in jax.tree.leaves(x):
            lengths = (1, leaf.shape[-1]) if leaf.ndim > 1 else (1,)
            for name, values in (("mean", self.mean), ("std", self.std)):
                good = len(values) in lengths
                require(good, f"len({name})", len(values), f"1 and the channels of the data, {lengths[-1]}")
        return jnp.asarray(self.mean), jnp.asarray(self.std)
