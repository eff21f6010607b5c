"""The file `meta.json` of a checkpoint: everything but the arrays."""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxdiff.json_files import parse_json, read_json
from jaxdiff.runs.checkpoints.leaves import LeafInfo

_ENTRIES = {"step": int, "metric": float | None, "version": dict, "config": dict, "iterator": object, "leaves": dict}


def contents(
    step: int,
    table: Mapping[str, LeafInfo],
    iterator_state: Any,
    config: Mapping[str, Any],
    metric: float | None,
    version: Mapping[str, Any],
) -> dict[str, Any]:
    """The contents of `meta.json`, as they will be read back.

    Raises:
      TypeError: `iterator_state` or `config` cannot be written as JSON.
    """
    return {
        "step": step,
        "metric": None if metric is None or not math.isfinite(metric) else float(metric),
        "version": dict(version),
        "config": _as_json("config", dict(config)),
        "iterator": _as_json("iterator_state", iterator_state),
        "leaves": {name: dataclasses.asdict(info) for name, info in table.items()},
    }


def read(checkpoint: Path) -> dict[str, Any]:
    """The contents of a checkpoint's `meta.json`.

    Raises:
      OSError: the file cannot be read.
      ValueError: it is not what `contents` made.
    """
    found = read_json(checkpoint / "meta.json")
    if not isinstance(found, dict) or set(found) != set(_ENTRIES):
        raise ValueError("unreadable")
    for name, kind in _ENTRIES.items():
        if not isinstance(found[name], kind):
            raise ValueError(f"{name} is unreadable")
    return found


def read_metric(checkpoint: Path) -> float | None:
    """A checkpoint's metric; None if it has none or cannot be read."""
    try:
        metric: float | None = read(checkpoint)["metric"]
    except (OSError, ValueError):
        return None
    return metric


def _as_json(argument: str, value: Any) -> Any:
    """The value after a round trip through JSON."""

    def number(item: Any) -> Any:
        if isinstance(item, np.generic):
            return item.item()
        raise TypeError(f"{type(item).__name__} has no JSON form")

    try:
        return parse_json(json.dumps(value, default=number))
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"{argument} cannot be written as JSON: {error}") from error
