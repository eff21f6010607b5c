"""What a checkpoint holds beside its arrays: `meta.json`."""

import base64
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxdiff.runs.checkpoints.leaves import LeafInfo


def describe(
    step: int,
    table: Mapping[str, LeafInfo],
    iterator_state: Any,
    config: Mapping[str, Any],
    metric: float | None,
    version: Mapping[str, Any],
) -> dict[str, Any]:
    """The contents of `meta.json`: nothing but what JSON can express.

    Raises:
        TypeError: `iterator_state` or `config` cannot be written as JSON.
    """
    return {
        "step": step,
        "metric": None if metric is None or not math.isfinite(metric) else float(metric),
        "version": dict(version),
        "config": _plain("config", dict(config)),
        "iterator": _plain("iterator_state", _pack(iterator_state)),
        "leaves": {name: info._asdict() for name, info in table.items()},
    }


def read(checkpoint: Path) -> dict[str, Any]:
    """The contents of a checkpoint's `meta.json`."""
    return json.loads((checkpoint / "meta.json").read_bytes())


def read_metric(checkpoint: Path) -> float | None:
    """A checkpoint's metric, or None where it has none or is broken."""
    try:
        metric = read(checkpoint)["metric"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return metric if isinstance(metric, float) else None


def _pack(state: Any) -> dict[str, Any]:
    """Grain's loaders describe themselves in bytes, its datasets in a dict."""
    if isinstance(state, bytes):
        return {"bytes": base64.b64encode(state).decode()}
    return {"json": state}


def iterator_state(meta: Mapping[str, Any]) -> Any:
    """The data iterator's state, as it was given."""
    packed = meta["iterator"]
    return base64.b64decode(packed["bytes"]) if "bytes" in packed else packed["json"]


def _plain(argument: str, value: Any) -> Any:
    """The value as it will be read back."""

    def number(item: Any) -> Any:
        if isinstance(item, np.generic):
            return item.item()
        raise TypeError(f"{type(item).__name__} has no JSON form")

    try:
        return json.loads(json.dumps(value, default=number))
    except (TypeError, ValueError) as error:
        raise TypeError(f"{argument}: cannot be written as JSON: {error}") from error
