"""The interface of objectives as components: what a training loss is given, and what it gives back."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jaxtyping import Array, Float, Key, PyTree

from jaxdiff import trees
from jaxdiff.averages import Rule
from jaxdiff.checks import integer, not_negative, positive
from jaxdiff.components import Component


class Context(NamedTuple):
    """What an objective may look at beside parameters and batch. All of it is an argument of the compiled step.

    Attributes:
      step: the number of steps before this one.
      averages: the averages of the parameters, by name, without the parameters of the objective.
      frozen: the models that the objective loaded, such as a teacher.
      extra: the mutable values of the objective.
    """

    step: Any = 0
    averages: Mapping[str, PyTree] = {}
    frozen: Any = None
    extra: Any = None


class Loss(NamedTuple):
    """The value of an objective.

    Attributes:
      losses: one loss per example, `[batch]`; or a scalar. The step lowers their mean.
      metrics: numbers to report, per example or scalars, by name.
      updates: the new mutable values, in the structure of `Context.extra`; None to leave them as they are.
    """

    losses: Float[Array, " batch"] | Float[Array, ""]
    metrics: Mapping[str, Any]
    updates: Any = None


# (params, key, batch, context) -> Loss. The key is one key, or a `trees.BatchKey` for a part of a batch.
Function = Callable[[PyTree, Key[Array, ""] | trees.BatchKey, Mapping[str, PyTree], Context], Loss]


@dataclasses.dataclass(frozen=True)
class Group:
    """Parameters that are optimised in a way of their own."""

    pattern: str
    """A regular expression for the names of leaves, such as `^objective` or `model.params.conv_in`."""
    rate: float = 1.0
    """The factor of the learning rate."""
    every: int = 1
    """The number of steps from one update of the group to the next. The steps between leave it as it is."""
    max_grad_norm: float | None = None
    """The largest norm of the gradient of the group alone; None for the limit over all parameters."""

    def __post_init__(self) -> None:
        not_negative("rate", self.rate)
        integer("every", self.every)
        if self.max_grad_norm is not None:
            positive("max_grad_norm", self.max_grad_norm)


class Objective(Component):
    """The base of objectives: components that make a loss for a model.

    A model is bound to its data (`jaxdiff.models`), and each objective says in its docstring what it asks of the model.
    The trainer knows no objective by name.
    """

    home = "jaxdiff.objectives"

    @property
    def couples(self) -> bool:
        """Whether the loss of an example depends on the other examples of its batch.

        Such an objective needs the whole batch at once: it is refused under pmap and with parts of a batch.
        """
        return False

    def load(self, open: Callable[[str], Any]) -> Any:
        """The frozen models that the objective needs, as a pytree: `Context.frozen`.

        Args:
          open: opens a run or a file of weights by the path in a setting of type `components.Part`.
        """
        return None

    def init(self, model: Any, key: Key[Array, ""]) -> PyTree:
        """Parameters of the objective's own, which are trained beside the model: `params["objective"]`."""
        return {}

    def start(self, params: dict[str, PyTree], frozen: Any) -> dict[str, PyTree]:
        """The parameters to begin with, such as those of a teacher in `frozen` in the place of random ones."""
        return params

    def extra(self, model: Any) -> PyTree:
        """The first mutable values, such as statistics: `Context.extra`."""
        return {}

    def averages(self) -> Mapping[str, Rule]:
        """Averages of the parameters that the objective needs, beside those of the run."""
        return {}

    def groups(self) -> tuple[Group, ...]:
        """Parameters that are optimised in a way of their own."""
        return ()

    def make(self, model: Any) -> Function:
        """The loss of a bound model, as a pure function `(params, key, batch, context) -> Loss`.

        Raises:
          ValueError: the objective does not fit the model.
        """
        raise NotImplementedError
