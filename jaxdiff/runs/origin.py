"""The origin of samples: the run, the step, the seed, the conditions and the settings that they come from."""

import os
from pathlib import Path
from typing import Any

from jaxdiff.components import to_json
from jaxdiff.models import Sampling


def origin(
    run: str | os.PathLike[str],
    step: int,
    *,
    seed: int,
    ema: float | str | None,
    conditions: Any,
    sampling: Sampling | None,
) -> dict[str, Any]:
    """The origin of samples as JSON values, for `media.with_origin`.

    Directories can be private, and pictures are passed on: of every path the last name alone is kept.

    Args:
      run: the run directory.
      step: the step of the weights.
      seed: the seed of the noise.
      ema: the average of the weights, as of `load`.
      conditions: what was asked for, as JSON values.
      sampling: how the samples were drawn; None for a model that draws none.
    """
    found = {"run": Path(run).resolve().name, "step": step, "seed": seed, "ema": ema, "conditions": conditions}
    return found if sampling is None else {**found, "sampling": _last_names(to_json(sampling))}


def _last_names(tree: Any) -> Any:
    """JSON settings, in which the last name stands for each path."""
    if isinstance(tree, dict):
        return {name: _last_names(item) for name, item in tree.items()}
    if isinstance(tree, list):
        return [_last_names(item) for item in tree]
    return Path(tree).name if isinstance(tree, str) else tree
