"""The interface of conditions: how something that a user asks for reaches the network."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, Self

import numpy as np
from jaxtyping import Array, Key, PyTree

from jaxdiff.checks import message, require
from jaxdiff.components import Component
from jaxdiff.data.fields import Field, check_known
from jaxdiff.data.selection import Entry

# Maps data in the units of the data to the space in which the model works.
Encode = Callable[[PyTree], PyTree]


class Condition(Component):
    """The base of conditions, which tell a network something beside time.

    A value passes through a condition in four steps. `read` turns the field of a record into numbers, on the host, in
    the workers of the data. With probability `dropout` the step replaces these numbers by those of `null`. `encode`
    turns them into the value of a channel, on the device, with parameters of its own or with frozen models. The network
    is given this value under the name of the condition.

    Attributes:
      channel: how the value enters the network: `class`, `vector`, `tokens` (with a mask) or `planes`.
    """

    home = "jaxdiff.conditions"
    channel: ClassVar[Literal["class", "vector", "tokens", "planes"]]  # or a property, where a setting decides it
    field: str
    dropout: float

    @property
    def guided(self) -> bool:
        """Whether guidance leads to the value. If not, the unconditional estimate is told what is asked for, too."""
        return True

    @property
    def entry(self) -> str:
        """The name of the batch entry that the condition encodes. Conditions with the same reading share an entry."""
        return self.field

    def entries(self, fields: Mapping[str, Field]) -> dict[str, Entry]:
        """The entries that batches need for this condition, and how they are read from the fields of a record."""
        return {self.entry: Entry(self.field, None, fields[self.field])}

    def check(self, fields: Mapping[str, Field]) -> None:
        """Checks that the condition fits the fields of the data, after augmentations.

        Raises:
          ValueError: the data have no such field, or a field of another kind.
        """
        check_known(fields, self.field)

    def classes(self, fields: Mapping[str, Field]) -> int:
        """The number of classes of a condition of the channel `class`; 0 for others."""
        return 0

    def load(self, open: Callable[[str], Any]) -> Any:
        """The frozen models that `encode` needs, as a pytree. `open` opens a run or a file of weights."""
        return None

    def opened(self, frozen: Any) -> Self:
        """The condition that knows its frozen models, whose tokenizer it may need to read.

        Args:
          frozen: the result of `load`, or the shapes of its arrays.
        """
        return self

    def init(self, key: Key[Array, ""]) -> PyTree:
        """Parameters of the condition's own, which are trained with the model: `params["conditions"][name]`."""
        return {}

    def null(self, fields: Mapping[str, Field]) -> np.ndarray:
        """The entry of one example that asks for nothing: the reading of "", the null class, zeros."""
        raise NotImplementedError

    def encode(
        self, params: PyTree, frozen: Any, batch: Mapping[str, Array], keys: Key[Array, " batch"] | None, codec: Encode
    ) -> PyTree:
        """The value of the condition's channel, `[batch, ...]`.

        Args:
          params: the result of `init`, as trained.
          frozen: the result of `load`.
          batch: the entries of a batch.
          keys: one key per example in training; None when samples are drawn.
          codec: maps pictures to the space of the model, for planes.
        """
        return batch[self.entry]

    def ask(self, given: Any, fields: Mapping[str, Field]) -> dict[str, np.ndarray]:
        """The entries that a user asks for: `label=3`, `text="a cat"`. One value may stand for the whole batch.

        Args:
          given: a value, or one value per example.

        Returns:
          The entries, `[1, ...]` or `[n, ...]`.

        Raises:
          ValueError: the condition does not allow the value. The error begins with the field.
        """
        raise NotImplementedError

    def captions(self, entries: Mapping[str, np.ndarray], fields: Mapping[str, Field]) -> list[str]:
        """What each example of a batch of entries asks for, in words; empty if words do not help."""
        return []


def as_array(name: str, given: Any, allowed: str) -> np.ndarray:
    """A value that a user gave as an array with at least one number.

    Raises:
      ValueError: the value is no array, or an empty one. The error begins with the name.
    """
    try:
        array = np.asarray(given)
    except ValueError as error:  # lists of different lengths
        raise ValueError(message(name, given, allowed)) from error
    require(array.size, name, given, allowed)
    return array
