"""The file `meta.json` of a checkpoint: everything but the arrays."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxdiff.runs.checkpoints.leaves import LeafInfo


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
        "leaves": {name: info._asdict() for name, info in table.items()},
    }


def read(checkpoint: Path) -> dict[str, Any]:
    """The contents of a checkpoint's `meta.json`."""
    return json.loads((checkpoint / "meta.json").read_bytes())


def read_metric(checkpoint: Path) -> float | None:
    """A checkpoint's metric; None if it has none or cannot be read."""
    try:
        metric = read(checkpoint)["metric"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return metric if isinstance(metric, float) else None


def _as_json(argument: str, value: Any) -> Any:
    """The value after a round trip through JSON."""

    def number(item: Any) -> Any:
        if isinstance(item, np.generic):
            return item.item()
        raise TypeError(f"{type(item).__name__} has no JSON form")

    try:
        return json.loads(json.dumps(value, default=number))
    except (TypeError, ValueError) as error:
        raise TypeError(f"{argument} cannot be written as JSON: {error}") from error
