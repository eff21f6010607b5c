"""The data of a run: opened, reduced to the entries of a batch, and placed."""

import contextlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from jaxdiff import data
from jaxdiff.checks import integer, message, require
from jaxdiff.components import at
from jaxdiff.data import Dataset, Entry, Examples
from jaxdiff.data.fields import Field
from jaxdiff.runs.config import Config

# The number of examples that are shown beside samples, or that give samples their conditions.
SHOWN = 64


class Opened(NamedTuple):
    """The data of a run.

    Attributes:
      training: the examples of training: the entries of a batch.
      validation: the examples of validation; None for none.
      shown: the first examples, as a batch on the host: of validation, or else of training.
    """

    training: Examples
    validation: Examples | None
    shown: dict[str, np.ndarray]


def open_set(dataset: Dataset, name: str = "data") -> Examples:
    """Opens a data set.

    Raises:
      ValueError, OSError: the set does not exist or cannot be read. The error names the setting.
    """
    with at(name):
        return dataset.open()


def open_entries(config: Config, examples: Examples, entries: Mapping[str, Entry]) -> Opened:
    """The data of a run, reduced to the entries of a batch, and decoded unless they stay on disk.

    Args:
      config: the configuration.
      examples: the opened data set of `config.data`.
      entries: the entries, from `recipe.Training`.

    Raises:
      ValueError: the examples of validation do not fit, or a record cannot be read.
    """
    training: Examples = data.select(examples, entries)
    validation: Examples | None = None
    if config.train.held_out:
        integer("train.held_out", config.train.held_out, most=len(training) - 1)
        training, validation = data.held_out(training, config.train.held_out)
    if config.validation is not None:
        other = open_set(config.validation, "validation")
        for entry in entries.values():
            found = other.fields.get(entry.field)
            _check_same(entry.field, found, examples.fields[entry.field])
        validation = data.select(other, entries)
    if config.loading.placement != "disk":
        training = data.in_memory(training)
        validation = None if validation is None else data.in_memory(validation)
    source = training if validation is None else validation
    with contextlib.closing(data.evaluation_batches(source, min(SHOWN, len(source)))) as batches:
        shown = next(batches)
    for name, entry in entries.items():
        # Shapes and types were promised, so that the model is bound to them; these are real records.
        real, promised = (shown[name].shape[1:], shown[name].dtype.name), (entry.spec.shape, entry.spec.dtype)
        require(real == promised, f"shape and type of {name!r} in the data", real, f"{promised}, as its field says")
    return Opened(training, validation, shown)


def _check_same(name: str, found: Field | None, wanted: Field) -> None:
    """Raises a ValueError if a field of the validation data is not like that of the training data."""
    if found is None or (found.kind, found.shape, found.dtype, found.classes) != (
        wanted.kind,
        wanted.shape,
        wanted.dtype,
        wanted.classes,
    ):
        raise ValueError(message(f"field {name!r} of validation", found, f"fields like that of the data, {wanted}"))
