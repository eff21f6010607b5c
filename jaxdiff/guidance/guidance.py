"""The interface of guidance as a component."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jaxtyping import PyTree

from jaxdiff.checks import message, require
from jaxdiff.components import Component
from jaxdiff.denoisers import Denoiser

# A value that is asked of a condition, as a setting.
Wish = int | float | str


class Asked(NamedTuple):
    """The conditions of a batch of samples, encoded.

    Attributes:
      cond: what is asked for, by the name of the condition; leaves `[1, ...]` or `[batch, ...]`.
      null: the same structure, where nothing is asked for.
      entries: what is asked for, before it is encoded: batch entries, which another model can encode.
      encode: encodes other wishes, by the name of the condition, as `cond`.
    """

    cond: PyTree
    null: PyTree
    entries: Mapping[str, Any] | None = None
    encode: Callable[[Mapping[str, Any]], PyTree] | None = None

    def without(self, negative: Mapping[str, Wish]) -> PyTree:
        """The conditions that samples are led away from: the null conditions, or wishes of a rule.

        Raises:
          ValueError: the model has no such condition, or the condition does not allow the value.
        """
        return self.wish(negative) if negative else self.null

    def wish(self, values: Mapping[str, Wish]) -> PyTree:
        """Other wishes, encoded. Nothing is asked of the conditions that they do not name.

        Raises:
          ValueError: the model has no such condition, or the condition does not allow the value.
        """
        if self.encode is None:
            raise ValueError(message("wishes of the rule", dict(values), "none, since nothing encodes them"))
        return self.encode(values)

    def require_conditions(self, name: str, value: Any, allowed: str = "1") -> None:
        """Raises a ValueError about a setting, of which only some values are allowed if the model has no conditions."""
        require(self.cond, name, value, f"{allowed}, since the model has no conditions")


class Guidance(Component):
    """The base of guidance rules, which make the denoiser that is sampled."""

    home = "jaxdiff.guidance"

    @property
    def consistent(self) -> bool:
        """Whether x0 and eps of the estimates are consistent pairs, which every solver can sample."""
        return True

    def load(self, open: Callable[[str], Any]) -> Any:
        """The frozen models that the rule needs, as a pytree. `open` opens a run or a file of weights."""
        return None

    def unasked(self) -> "Guidance | None":
        """The rule for samples of which nothing is asked; None for no guidance."""
        return None

    def __call__(self, denoiser_of: Callable[[PyTree], Denoiser], asked: Asked, frozen: Any = None) -> Denoiser:
        """The denoiser of what is asked for.

        Args:
          denoiser_of: the denoiser of encoded conditions. That of `jaxdiff.models` is a pytree, with which
            `guidance.both.of_conditions` makes several denoisers that call the network once.
          asked: the conditions.
          frozen: the result of `load`.

        Raises:
          ValueError: the rule does not fit the model.
        """
        raise NotImplementedError
