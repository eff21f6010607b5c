"""What a network changes itself while an objective evaluates it, such as batch statistics."""

from typing import Any

from jaxtyping import PyTree


class Recorded:
    """The `apply` of a model, which keeps the new state of the network. It is for one call within one trace.

    Attributes:
      state: the new state, `extra["network"]`, after the call; empty if the network changes nothing.
    """

    def __init__(self, apply: Any) -> None:
        self._apply = apply
        self.state: dict[str, PyTree] = {}

    def __call__(self, *args: Any, **given: Any) -> PyTree:
        """Calls `apply`."""
        output, self.state = self._apply.with_state(*args, **given)
        return output

    def updates(self, others: PyTree) -> PyTree:
        """The updates of an objective, with those of the network beside `others`; None if there are none at all."""
        return {**(others or {}), "network": self.state} if self.state else others
