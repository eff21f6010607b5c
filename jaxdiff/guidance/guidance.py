"""The interface of guidance as a component."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxtyping import PyTree

from jaxdiff.components import Component
from jaxdiff.denoisers import Denoiser


class Asked(NamedTuple):
    """The conditions of a batch of samples, encoded.

    Attributes:
      cond: what is asked for, by the name of the condition; leaves `[1, ...]` or `[batch, ...]`.
      null: the same structure, where nothing is asked for.
    """

    cond: PyTree
    null: PyTree


class Guidance(Component):
    """The base of guidance rules, which make the denoiser that is sampled."""

    home = "jaxdiff.guidance"

    def load(self, open: Callable[[str], Any]) -> Any:
        """The frozen models that the rule needs, as a pytree. `open` opens a run or a file of weights."""
        return None

    def __call__(self, denoiser_of: Callable[[PyTree], Denoiser], asked: Asked, frozen: Any = None) -> Denoiser:
        """The denoiser of what is asked for.

        Args:
          denoiser_of: the denoiser of encoded conditions.
          asked: the conditions.
          frozen: the result of `load`.

        Raises:
          ValueError: the rule does not fit the model.
        """
        raise NotImplementedError
