"""Class labels."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np

from jaxdiff.checks import did_you_mean, fraction, require
from jaxdiff.conditions.condition import Condition, as_array
from jaxdiff.data.fields import Field


@dataclasses.dataclass(frozen=True)
class Label(Condition):
    """The class of an example. Class n, of classes 0 to n - 1, means no class.

    Attributes:
      field: the field of the labels.
      dropout: the probability that an example loses its label in training, for classifier-free guidance.
    """

    channel: ClassVar[Literal["class"]] = "class"
    field: str = "label"
    dropout: float = 0.1

    def __post_init__(self) -> None:
        fraction("dropout", self.dropout)

    def check(self, fields: Mapping[str, Field]) -> None:
        super().check(fields)
        kind = fields[self.field].kind
        require(kind == "label", "field", self.field, f"fields of labels, and not of kind {kind!r}")

    def classes(self, fields: Mapping[str, Field]) -> int:
        return fields[self.field].classes

    def null(self, fields: Mapping[str, Field]) -> np.ndarray:
        return np.asarray(self.classes(fields), np.int32)

    def ask(self, given: Any, fields: Mapping[str, Field]) -> dict[str, np.ndarray]:
        classes, names = self.classes(fields), fields[self.field].names
        allowed = f"integers from 0 to {classes - 1}, one or [batch]"
        labels = as_array(self.field, given, allowed)
        if names and labels.dtype.kind == "U" and labels.ndim <= 1:
            for one in np.atleast_1d(labels).tolist():
                known = f"names of classes: {', '.join(names)}"
                require(one in names, self.field, one, known + did_you_mean(one, names))
            labels = np.reshape([names.index(one) for one in np.atleast_1d(labels).tolist()], labels.shape)
        good = labels.dtype.kind in "iu" and labels.ndim <= 1 and np.all((labels >= 0) & (labels < classes))
        require(good, self.field, given, allowed)
        return {self.field: np.atleast_1d(labels).astype(np.int32)}

    def captions(self, entries: Mapping[str, np.ndarray], fields: Mapping[str, Field]) -> list[str]:
        names, classes = fields[self.field].names, self.classes(fields)
        labels = [int(label) for label in np.asarray(entries[self.field])]
        return ["" if label == classes else names[label] if names else str(label) for label in labels]
