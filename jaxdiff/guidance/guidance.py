"""The interface of guidance as a component."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jaxtyping import PyTree

from jaxdiff.checks import require
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
      of: encodes other wishes, by the name of the condition: the `Asked` of these.
    """

    cond: PyTree
    null: PyTree
    entries: Mapping[str, Any] | None = None
    of: Callable[[Mapping[str, Any]], Any] | None = None

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
        require(self.of is not None, "wishes", dict(values), "none, since the model cannot encode them")
        return self.of(values).cond  # type: ignore[misc]

    def require_conditions(self, name: str, value: Any, allowed: str = "1") -> None:
        """Raises a ValueError about a setting, of which only some values are allowed if the model has no conditions."""
        require(self.cond, name, value, f"{allowed}, since the model has no conditions")


class Guidance(Component):
    """The base of guidance rules, which make the denoiser that is sampled."""

    home = "jaxdiff.guidance"

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
