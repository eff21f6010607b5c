"""Pairs of functions of one's own."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from jaxtyping import PyTree

from jaxdiff.networks.own.base import OwnNetwork, names_of_arguments


@dataclasses.dataclass(frozen=True)
class FunctionsNetwork(OwnNetwork):
    """A pair of functions of the user's own."""

    first: Callable[..., PyTree]
    function: Callable[..., PyTree]

    @property
    def held(self) -> Any:
        return self.first, self.function

    @property
    def arguments(self) -> frozenset[str]:
        return names_of_arguments(self.function)

    def init(self, key: Any, x: PyTree, time: Any, cond: Any = None) -> dict[str, PyTree]:
        """The first variables."""
        alone = len(inspect.signature(self.first).parameters) == 1
        return {"params": self.first(key) if alone else self.first(key, x, time, **self.told(cond, None))}

    def call(
        self, variables: Mapping[str, PyTree], key: Any, *args: Any, **given: Any
    ) -> tuple[PyTree, dict[str, PyTree]]:
        return self.function(variables["params"], *args, **given), {}
