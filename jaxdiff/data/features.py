"""Features: how the features of a TFDS set become fields."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from jaxdiff.checks import integer, message, require
from jaxdiff.components import Component
from jaxdiff.data.fields import Field
from jaxdiff.data.picture_files import decode_picture
from jaxdiff.data.pixels import Fit, check_size

__all__ = ["Feature", "Label", "Padded", "Picture", "Points", "Text", "Values", "Video", "Waveform"]


class Declared(NamedTuple):
    """A feature as the data set declares it.

    Attributes:
      kind: what it is. Pictures are encoded bytes; "pictures" is a sequence of them.
      shape: its shape; None for an axis of unknown length.
      dtype: NumPy's name of its type.
      names: the names of the classes of a label.
    """

    kind: Literal["picture", "pictures", "label", "text", "numbers", "other"]
    shape: tuple[int | None, ...] = ()
    dtype: str = ""
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.kind in ("picture", "pictures", "numbers"):
            return f"{self.kind} of type {self.dtype} and shape {self.shape}"
        return self.kind if self.kind != "other" else "of a kind that cannot be read"


class Feature(Component):
    """The base of features: components that say how a feature of a TFDS set becomes one field or more."""

    home = "jaxdiff.data.features"

    def fields(self, name: str, declared: Declared) -> dict[str, Field]:
        """The fields that the feature becomes, by name.

        Args:
          name: the name of the feature.
          declared: the feature as the data set declares it.

        Raises:
          ValueError: the feature is of another kind, type or shape. The error begins with `fields.NAME`.
        """
        raise NotImplementedError

    def read(self, name: str, raw: Any, fields: Mapping[str, Field]) -> dict[str, Any]:
        """The entries of one record, by the names of `fields`.

        Args:
          name: the name of the feature.
          raw: its value in the record.
          fields: the result of `fields`.

        Raises:
          ValueError: the value cannot be read. The error is one line.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Picture(Feature):
    """Pictures of 8 bits and 1 or 3 channels, uint8 `[height, width, channels]`.

    Attributes:
      size: side in pixels of the squares that pictures become. None keeps pictures as they are, which must then have
        one size.
      fit: how a picture becomes a square: "crop" takes the centred square, "pad" adds white borders on both sides.
    """

    size: int | None = None
    fit: Fit = "crop"

    def __post_init__(self) -> None:
        check_size(self.size, self.fit)

    def fields(self, name: str, declared: Declared) -> dict[str, Field]:
        return {name: Field("picture", _sides(name, declared, "picture", self.size), "uint8")}

    def read(self, name: str, raw: Any, fields: Mapping[str, Field]) -> dict[str, Any]:
        return {name: decode_picture(raw, fields[name].shape[-1], self.size, self.fit)}


@dataclass(frozen=True)
class Video(Feature):
    """Sequences of pictures, uint8 `[frames, height, width, channels]`.

    Attributes:
      frames: the number of frames: the first of a longer video. A shorter one holds its last frame.
      size: side in pixels of the squares that frames become. None keeps frames as they are, which must have one size.
      rate: frames per second, 0 if it is not known.
      every: takes every frame (1), every second frame (2), and so on. `rate` is that of the frames taken.
      fit: how a frame becomes a square: "crop" takes the centred square, "pad" adds white borders on both sides.
    """

    frames: int
    size: int | None = None
    rate: int = 0
    every: int = 1
    fit: Fit = "crop"

    def __post_init__(self) -> None:
        integer("frames", self.frames)
        integer("rate", self.rate, least=0)
        integer("every", self.every)
        check_size(self.size, self.fit)

    def fields(self, name: str, declared: Declared) -> dict[str, Field]:
        shape = (self.frames, *_sides(name, declared, "pictures", self.size))
        return {name: Field("video", shape, "uint8", rate=self.rate)}

    def read(self, name: str, raw: Any, fields: Mapping[str, Field]) -> dict[str, Any]:
        chosen = list(raw)[:: self.every][: self.frames]
        require(chosen, f"frames of {name!r}", 0, "integers of at least 1")
        frames = [decode_picture(frame, fields[name].shape[-1], self.size, self.fit) for frame in chosen]
        for frame in frames:
            require(frame.shape == fields[name].shape[1:], "shape of a frame", frame.shape, f"{fields[name].shape[1:]}")
        return {name: np.stack(frames + frames[-1:] * (self.frames - len(frames)))}


@dataclass(frozen=True)
class Waveform(Feature):
    """Sound, float32 `[length, channels]` in [-1, 1]: int16 samples are divided by 32768, floats stay as they are.

    Attributes:
      length: the number of samples: the first of a longer sound. A shorter one ends with zeros.
      rate: samples per second, 0 if it is not known.
    """

    length: int
    rate: int = 0

    def __post_init__(self) -> None:
        integer("length", self.length)
        integer("rate", self.rate, least=0)

    def fields(self, name: str, declared: Declared) -> dict[str, Field]:
        shape = declared.shape
        good = declared.kind == "numbers" and (declared.dtype == "int16" or _is_type(declared.dtype, "f"))
        good = good and len(shape) in (1, 2) and None not in shape[1:]
        _require(good, name, declared, "int16 samples or floating-point numbers of shape [time] or [time, channels]")
        channels = shape[1] if len(shape) == 2 else 1
        return {name: Field("waveform", (self.length, channels or 1), "float32", rate=self.rate)}

    def read(self, name: str, raw: Any, fields: Mapping[str, Field]) -> dict[str, Any]:
        samples = np.asarray(raw)
        scale = np.float32(2.0**-15 if samples.dtype == np.int16 else 1)
        samples = samples[: self.length].reshape(-1, fields[name].shape[1])
        return {name: _padded(samples.astype(np.float32) * scale, self.length)}


@dataclass(frozen=True)
class Points(Feature):
    """Positions of points, float32 `[count, dimensions]`, and a mask of the points that exist, `NAME_mask`.

    Attributes:
      count: the number of rows, as many as the largest set has. Rows without a point are zero.
    """

    count: int

    def __post_init__(self) -> None:
        integer("count", self.count)

    def fields(self, name: str, declared: Declared) -> dict[str, Field]:
        shape = declared.shape
        good = declared.kind == "numbers" and _is_type(declared.dtype, "f") and len(shape) == 2 and shape[1] is not None
        _require(good, name, declared, "floating-point numbers of shape [n, dimensions]")
        mask = Field("mask", (self.count,), "bool", of=name)
        return {name: Field("points", (self.count, shape[1] or 0), "float32"), f"{name}_mask": mask}

    def read(self, name: str, raw: Any, fields: Mapping[str, Field]) -> dict[str, Any]:
        rows = np.asarray(raw, np.float32)
        _check_count(name, len(rows), self.count)
        return {name: _padded(rows, self.count), f"{name}_mask": np.arange(self.count) < len(rows)}


@dataclass(frozen=True)
class Padded(Feature):
    """One row of numbers for each of several things, such as the points of a set: float32 `[count, columns]`.

    Rows of a record come first, and all others are zero. With `values` or `classes` a row is one-hot; else it holds the
    numbers themselves.

    Attributes:
      count: the number of rows, as many as the largest record has.
      classes: the number of classes of integers from 0, which become one-hot rows; 0 for other numbers.
      names: the names of the columns.
      values: the integers that become one-hot rows, in the order of the columns: `(1, 6, 7, 8, 16)`.
    """

    count: int
    classes: int = 0
    names: tuple[str, ...] = ()
    values: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        integer("count", self.count)
        integer("classes", self.classes, least=0)
        object.__setattr__(self, "names", tuple(self.names))
        object.__setattr__(self, "values", tuple(self.values))
        require(not (self.classes and self.values), "classes", self.classes, "0 with values")
        require(len(set(self.values)) == len(self.values), "values", self.values, "different integers")

    def fields(self, name: str, declared: Declared) -> dict[str, Field]:
        shape, columns = declared.shape, len(self.values) or self.classes
        if columns:
            good = declared.kind in ("numbers", "label") and len(shape) == 1 and _is_type(declared.dtype, "iu")
            _require(good, name, declared, "integers of shape [n], of which one-hot rows are made")
        else:
            good = declared.kind in ("numbers", "label") and _is_type(declared.dtype, "iufb")
            good = good and len(shape) in (1, 2) and None not in shape[1:]
            _require(good, name, declared, "numbers of shape [n] or [n, columns]")
            columns = (shape[1] if len(shape) == 2 else 1) or 1
        if self.names and len(self.names) != columns:
            raise ValueError(message(f"fields.{name}.names", self.names, f"() and {columns} names"))
        names = self.names or tuple(map(str, self.values))
        return {name: Field("values", (self.count, columns), "float32", names=names)}

    def read(self, name: str, raw: Any, fields: Mapping[str, Field]) -> dict[str, Any]:
        rows = np.asarray(raw)
        _check_count(name, len(rows), self.count)
        if self.values or self.classes:
            allowed = np.asarray(self.values or range(self.classes))
            hot = rows[:, None] == allowed
            if not hot.any(1).all():
                strange = rows[~hot.any(1)][0]
                raise ValueError(message(name, strange, ", ".join(map(str, allowed))))
            rows = hot
        return {name: _padded(rows.reshape(len(rows), fields[name].shape[1]).astype(np.float32), self.count)}


@dataclass(frozen=True)
class Label(Feature):
    """Classes, int32: a class label of the data set, or integers whose classes are given.

    Attributes:
      classes: the number of classes; 0 for those that the data set declares, or the number of `names`.
      names: the names of the classes; empty for those that the data set declares.
    """

    classes: int = 0
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        integer("classes", self.classes, least=0)
        object.__setattr__(self, "names", tuple(self.names))
        good = not self.names or self.classes in (0, len(self.names))
        require(good, "len(names)", len(self.names), f"0 and {self.classes}, the number of classes")

    def fields(self, name: str, declared: Declared) -> dict[str, Field]:
        classes = self.classes or len(self.names)
        integers = declared.kind == "numbers" and declared.shape == () and _is_type(declared.dtype, "iu")
        good = (declared.kind == "label" and declared.shape == ()) or (integers and classes)
        _require(good, name, declared, "class labels, and single integers where Label is given classes")
        if declared.kind == "label" and classes not in (0, len(declared.names)):
            allowed = f"0 and {len(declared.names)}, the number that the data set declares"
            raise ValueError(message(f"fields.{name}.classes", classes, allowed))
        return {name: Field("label", (), "int32", classes or len(declared.names), self.names or declared.names)}

    def read(self, name: str, raw: Any, fields: Mapping[str, Field]) -> dict[str, Any]:
        most = fields[name].classes - 1
        require(0 <= raw <= most, name, raw, f"integers from 0 to {most}")
        return {name: int(raw)}


@dataclass(frozen=True)
class Text(Feature):
    """Text. A model reads it through a condition."""

    def fields(self, name: str, declared: Declared) -> dict[str, Field]:
        _require(declared.kind == "text", name, declared, "text")
        return {name: Field("text", (), "str")}

    def read(self, name: str, raw: Any, fields: Mapping[str, Field]) -> dict[str, Any]:
        return {name: raw.decode() if isinstance(raw, bytes) else str(raw)}


@dataclass(frozen=True)
class Values(Feature):
    """Numbers of one shape, float32.

    Attributes:
      names: the names of the columns, which are the last axis.
    """

    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))

    def fields(self, name: str, declared: Declared) -> dict[str, Field]:
        good = declared.kind == "numbers" and None not in declared.shape and _is_type(declared.dtype, "iufb")
        _require(good, name, declared, "numbers whose shape is known; Padded and Points take others")
        shape = tuple(size or 0 for size in declared.shape)
        return {name: Field("values", shape, "float32", names=self.names)}

    def read(self, name: str, raw: Any, fields: Mapping[str, Field]) -> dict[str, Any]:
        return {name: np.asarray(raw, np.float32)}


def understood(declared: Declared) -> Feature | None:
    """The feature of a kind that needs no telling: pictures, class labels and text. None for all others."""
    if declared.kind == "label" and declared.shape == ():
        return Label()
    return {"picture": Picture(), "text": Text()}.get(declared.kind)


def _sides(name: str, declared: Declared, kind: str, size: int | None) -> tuple[int, int, int]:
    """The shape of the pictures of a feature."""
    channels = declared.shape[-1] if declared.shape else None
    good = declared.kind == kind and declared.dtype == "uint8" and channels in (1, 3)
    _require(good, name, declared, f"{kind} of type uint8 with 1 or 3 channels")
    height, width = (size, size) if size is not None else declared.shape[-3:-1]
    if height is None or width is None:
        allowed = f"positive integers: the pictures have the shape {declared.shape}"
        raise ValueError(message(f"fields.{name}.size", None, allowed))
    return height, width, channels or 0


def _require(good: Any, name: str, declared: Declared, allowed: str) -> None:
    require(good, f"fields.{name}", declared, allowed)


def _check_count(name: str, found: int, count: int) -> None:
    require(found <= count, f"rows of {name!r}", found, f"at most {count}, the setting fields.{name}.count")


def _is_type(dtype: str, kinds: str) -> bool:
    return np.dtype(dtype).kind in kinds


def _padded(rows: np.ndarray, count: int) -> np.ndarray:
    padded = np.zeros((count, *rows.shape[1:]), rows.dtype)
    padded[: len(rows)] = rows
    return padded
