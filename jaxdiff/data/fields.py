"""Fields: what the named entries of a data set are."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np

from jaxdiff import components
from jaxdiff.checks import integer, message, one_of, require

Kind = Literal["picture", "video", "waveform", "points", "mask", "label", "text", "values"]
KINDS: tuple[str, ...] = get_args(Kind)
AXES = {"picture": 3, "video": 4, "waveform": 2, "points": 2, "mask": 1, "label": 0, "text": 0}


@dataclasses.dataclass(frozen=True)
class Field:
    """What one named entry of every example is.

    Attributes:
      kind: what the entry shows: a picture, a video, a waveform, points, a mask of rows, a label, text or values.
      shape: the shape of one example. Pictures have `[height, width, channels]`, videos `[frames, height, width,
        channels]`, waveforms `[time, channels]`, points `[n, 3]` and masks `[n]`. Labels and text have `()`.
      dtype: NumPy's name of the type; "str" for text. Pictures and videos are uint8, or float32 in [-1, 1].
      classes: the number of classes of a label.
      names: the names of the classes, or of the columns of values.
      rate: samples per second of a waveform, frames per second of a video; 0 if it is not known.
      of: the field whose rows a mask marks.

    Raises:
      ValueError: an attribute is of no such value, or the attributes do not fit each other.
    """

    kind: Kind
    shape: tuple[int, ...] = ()
    dtype: str = "float32"
    classes: int = 0
    names: tuple[str, ...] = ()
    rate: int = 0
    of: str = ""

    def __post_init__(self) -> None:
        one_of("kind", self.kind, KINDS)
        object.__setattr__(self, "shape", tuple(self.shape))
        object.__setattr__(self, "names", tuple(self.names))
        for size in self.shape:
            integer("shape", size)
        axes = AXES.get(self.kind, len(self.shape))
        require(len(self.shape) == axes, "shape", self.shape, f"shapes of {axes} axes for the kind {self.kind!r}")
        _check_dtype(self.kind, self.dtype)
        integer("classes", self.classes, least=0)
        integer("rate", self.rate, least=0)
        columns = self.shape[-1] if self.shape else 0
        named = self.classes if self.kind == "label" else columns
        if self.names and len(self.names) != named:
            raise ValueError(message("len(names)", len(self.names), f"0 and {named}"))
        require(not self.of or self.kind == "mask", "of", self.of, f"'' for the kind {self.kind!r}")

    def to_json(self) -> dict[str, Any]:
        """The field as JSON values."""
        tree: dict[str, Any] = components.to_json(self)
        return tree

    @classmethod
    def from_json(cls, tree: Any, path: str = "field") -> "Field":
        """The field that `to_json` wrote.

        Args:
          tree: JSON values.
          path: the name of the field in error messages.

        Raises:
          ValueError: an attribute is unknown, missing or of the wrong type. The error is one line.
        """
        field: Field = components.from_json(cls, tree, path)
        return field


def check_known(fields: Mapping[str, Field], name: str, setting: str = "field") -> None:
    """Raises a ValueError if there is no field `name`, the value of a setting."""
    require(name in fields, setting, name, f"fields of the data: {', '.join(fields)}")


def _check_dtype(kind: str, dtype: str) -> None:
    try:
        letter: str = "S" if dtype == "str" else np.dtype(dtype).kind
    except TypeError:
        letter = ""
    kinds, allowed = {
        "text": ("S", "'str'"),
        "label": ("iu", "NumPy's names of integer types"),
        "picture": ("uf", "'uint8' and floating-point types"),
        "video": ("uf", "'uint8' and floating-point types"),
    }.get(kind, ("buif", "NumPy's names of types of numbers"))
    good = (
        letter != "" and letter in kinds and not (letter == "u" and kind in ("picture", "video") and dtype != "uint8")
    )
    require(good, "dtype", dtype, f"{allowed} for the kind {kind!r}")
