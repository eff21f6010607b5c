"""The common part of networks of one's own: how a model asks them, and how they are called."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

from jaxtyping import PyTree

from jaxdiff.checks import message
from jaxdiff.components import Component, Opaque
from jaxdiff.networks.module import Spec, check_specs


@dataclasses.dataclass(frozen=True)
class OwnNetwork(Opaque, Component):
    """The base of adapted networks. It does what `Network` does.

    The variables of a network are `{"params": ...}`, and further collections that the network itself changes in
    training, such as batch statistics. They are the network's state.

    Attributes:
      specs: the conditions that the network is told.
      still: whether the network behaves as outside of training whatever keys it is given, for validation.
    """

    home: ClassVar[str] = "jaxdiff.networks"
    takes: ClassVar[tuple[str, ...]] = ("class", "vector", "tokens", "planes")
    gives: ClassVar[str] = "example"
    hidden: ClassVar[str] = r"(?!)"
    trained: ClassVar[str] = ""
    specs: tuple[tuple[str, Spec], ...] = dataclasses.field(default=(), kw_only=True)
    still: bool = dataclasses.field(default=False, kw_only=True)

    @property
    def arguments(self) -> frozenset[str]:
        """The names of the arguments of the user's network."""
        raise NotImplementedError

    def call(
        self, variables: Mapping[str, PyTree], key: Any, *args: Any, **given: Any
    ) -> tuple[PyTree, dict[str, PyTree]]:
        """Calls the user's network with `args` and `given`: in training with a key, else with None.

        Returns:
          The output, and the new state; an empty one outside of training.
        """
        raise NotImplementedError

    @property
    def apply(self) -> "OwnApply":
        """The network as a function of its variables, compared by value."""
        return OwnApply(self)

    def can_be_told(self, name: str, channel: str) -> bool:
        """Whether the user's network has an argument for a condition with this name."""
        return name in self.arguments or "cond" in self.arguments

    def given(self, specs: Mapping[str, Spec]) -> Self:
        """As `Network.given`."""
        return dataclasses.replace(self, specs=check_specs(specs, self.takes, type(self.held).__name__))

    def giving(self, features: int) -> Self:
        """The network itself. Its own code says how long its output is."""
        return self

    def changed(self, **settings: Any) -> Self:
        """Raises a ValueError: a network of the user's own has no settings that others may change."""
        name, value = next(iter(settings.items()))
        kind = type(self.held).__name__
        raise ValueError(message(f"setting {name}", value, f"those of networks that have it, and {kind} has not"))

    def start(self, variables: PyTree, trained: PyTree) -> PyTree:
        """The variables of the trained network."""
        return trained

    def project(self, params: PyTree) -> PyTree:
        """The parameters themselves."""
        return params

    def plain(self) -> Self:
        """The network itself."""
        return self

    def quiet(self) -> Self:
        """The network as outside of training."""
        return dataclasses.replace(self, still=True)

    def evaluate(
        self, variables: Mapping[str, PyTree], x: PyTree, time: Any, cond: Any = None, key: Any = None
    ) -> tuple[PyTree, dict[str, PyTree]]:
        """The output of the network, and its new state if it is being trained."""
        key = None if self.still else key
        return self.call(variables, key, x, time, **self.told(cond, key))

    def told(self, cond: Any, key: Any) -> dict[str, Any]:
        """The arguments of the user's network beside x and time."""
        found = {"cond": cond} if "cond" in self.arguments else dict(cond or {})
        others = {"train": key is not None, "deterministic": key is None, "key": key}
        return found | {name: value for name, value in others.items() if name in self.arguments}


@dataclasses.dataclass(frozen=True)
class OwnApply:
    """The function `(variables, x, time, cond=None, key=None) -> output` of an adapted network."""

    network: OwnNetwork

    def __call__(self, variables: Mapping[str, PyTree], x: PyTree, time: Any, cond: Any = None, key: Any = None) -> Any:
        """Calls the network, and forgets its new state."""
        return self.network.evaluate(variables, x, time, cond, key)[0]


def names_of_arguments(function: Callable[..., Any]) -> frozenset[str]:
    """The names of the arguments of a function."""
    return frozenset(inspect.signature(function).parameters)


def single_key(key: Any) -> Any:
    """One key, of one key per example: a network that does not know of examples draws for all at once."""
    return key[0] if key.ndim else key
