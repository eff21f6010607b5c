"""Data sets of arrays that the user has in memory."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxdiff.checks import did_you_mean, message, require
from jaxdiff.data.dataset import Dataset
from jaxdiff.data.fields import Field
from jaxdiff.data.sources import ArraySource, Column, Examples


def from_arrays(
    arrays: Mapping[str, Any] | None = None,
    /,
    *,
    fields: Mapping[str, Field] | None = None,
    classes: Mapping[str, int] | None = None,
    names: Mapping[str, Sequence[str]] | None = None,
    **named: Any,
) -> Examples:
    """Makes a data set of arrays in memory: `from_arrays(image=pixels, label=labels)`.

    The first axis of every array counts the examples. The kind of an entry is that of its field in `fields`, or else
    follows from the array:

    - uint8 `[n, height, width, channels]` with 1 or 3 channels: pictures;
    - integers `[n]` from 0: labels, which become int32;
    - bool `[n, k]`: masks; `NAME_mask` marks the rows of the entry `NAME`, if there is one;
    - floating-point numbers `[n, *event]`: values, which become float32 and are not scaled;
    - n strings, in a sequence or an array: text.

    Args:
      arrays: the arrays by name. They may also be given as keywords, `named`.
      fields: the fields of some or all of the arrays.
      classes: numbers of classes of labels, by the name of the entry. Without it they are `max(labels) + 1`.
      names: names of the classes of labels, or of the columns of values.

    Raises:
      TypeError: the type of an array has no kind, or is not that of its field.
      ValueError: there are no arrays, an array is empty or not as long as the others, its shape does not fit, it holds
        numbers that are not finite, or labels out of range.
    """
    given = {**(arrays or {}), **named}
    require(given, "arrays", given, "at least one array")
    for argument, mapping in (("fields", fields), ("classes", classes), ("names", names)):
        for name in mapping or {}:
            if name not in given:
                allowed = f"names of arrays, {', '.join(map(repr, given))}"
                raise ValueError(message(f"a name in {argument}", name, allowed) + did_you_mean(name, given))
    columns: dict[str, Column] = {}
    found: dict[str, Field] = {}
    length: int | None = None
    for name, value in given.items():
        array = np.asarray(value)
        require(array.ndim > 0 and 0 not in array.shape, f"{name}.shape", array.shape, "shapes [n, ...] without a zero")
        length = len(array) if length is None else length
        require(len(array) == length, f"len({name})", len(array), f"{length}, the length of {next(iter(given))!r}")
        field = (fields or {}).get(name)
        if field is None:
            field = _infer(name, array, (classes or {}).get(name), tuple((names or {}).get(name, ())), given)
        columns[name], found[name] = _column(name, array, field), field
    return Examples(ArraySource(columns), found)


@dataclasses.dataclass(frozen=True)
class Arrays(Dataset):
    """Arrays in memory as a data set. JSON cannot hold the arrays: a run that used them has to be given them again.

    Attributes:
      examples: the result of `from_arrays`.
    """

    examples: Examples | None = dataclasses.field(default=None, metadata={"setting": False})

    def open(self) -> Examples:
        if self.examples is None:
            raise ValueError("examples is missing; a data set of arrays has to be given its arrays again")
        return self.examples


def _infer(
    name: str, array: np.ndarray, classes: int | None, names: tuple[str, ...], given: Mapping[str, Any]
) -> Field:
    """The field of an array without a field."""
    kind, shape = array.dtype.kind, array.shape[1:]
    if _is_text(array):
        return Field("text", (), "str")
    if array.dtype == np.uint8 and array.ndim == 4 and shape[-1] in (1, 3):
        return Field("picture", shape, "uint8")
    if kind in "iu" and array.ndim == 1:
        return Field("label", (), "int32", classes or len(names) or max(int(array.max()) + 1, 1), names)
    if kind == "b" and array.ndim == 2:
        of = name.removesuffix("_mask")
        return Field("mask", shape, "bool", of=of if of != name and of in given else "")
    if kind == "f":
        return Field("values", shape, "float32", names=names)
    allowed = "pictures (uint8 [n, height, width, 1 or 3]), labels (integers [n]), masks (bool [n, k]), values (floats "
    allowed += "[n, *event]), text (strings [n]), and arrays with a field"
    raise TypeError(f"{name} has the type {array.dtype} and the shape {array.shape}; allowed are {allowed}")


def _column(name: str, array: np.ndarray, field: Field) -> Column:
    """The array in the type of its field, checked."""
    if field.kind == "text":
        require(_is_text(array), f"{name}.dtype", array.dtype, "strings [n]", TypeError)
        return tuple(map(str, array.tolist()))
    require(array.shape[1:] == field.shape, f"{name}.shape[1:]", array.shape[1:], f"{field.shape}, the field's shape")
    kinds = {"f": "f", "i": "iu", "u": "iu", "b": "b"}[np.dtype(field.dtype).kind]
    good = array.dtype.kind in kinds and (field.dtype != "uint8" or array.dtype == np.uint8)
    require(good, f"{name}.dtype", array.dtype, f"types that become {field.dtype}, the field's type", TypeError)
    if array.dtype.kind == "f":
        require(np.isfinite(array).all(), name, np.nan, "finite numbers")
    if field.kind == "label":
        require(array.min() >= 0, f"{name}.min()", array.min(), "integers of at least 0")
        most = field.classes - 1
        require(array.max() <= most, f"{name}.max()", array.max(), f"integers of at most {most}")
    if array.dtype.kind in "iu":
        limits, least, most = np.iinfo(field.dtype), array.min(), array.max()
        fits = limits.min <= least and most <= limits.max
        require(fits, f"range of {name}", (least, most), f"integers from {limits.min} to {limits.max}")
    return np.ascontiguousarray(array, field.dtype)


def _is_text(array: np.ndarray) -> bool:
    if array.ndim != 1:
        return False
    return array.dtype.kind == "U" or (array.dtype.kind == "O" and all(isinstance(item, str) for item in array))
