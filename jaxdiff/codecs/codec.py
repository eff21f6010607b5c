"""The interface of codecs: the space in which a model works."""

from collections.abc import Callable
from typing import Any

from jaxtyping import Array, Key, PyTree

from jaxdiff.components import Component


class Codec(Component):
    """The base of codecs, which map data to the space of a model and back."""

    home = "jaxdiff.codecs"

    def load(self, open: Callable[[str], Any]) -> Any:
        """The frozen models that the codec needs, as a pytree. `open` opens a run or a file of weights."""
        return None

    def encode(self, frozen: Any, x: PyTree, keys: Key[Array, " batch"] | None = None) -> PyTree:
        """Maps data, in floats, to the space of the model.

        Args:
          frozen: the result of `load`.
          x: leaves `[batch, *event]`: the field of the model; a mapping of fields if there are several.
          keys: one key per example, for a codec that draws; None for its mean.
        """
        return x

    def decode(self, frozen: Any, z: PyTree) -> PyTree:
        """Maps the space of the model to data, in the structure and the units of `x` of `encode`."""
        return z
