"""The runs that guidance rules name, opened: a mapping from the setting to the model.

Rules hold other rules, and the settings of a sampler may replace those of the run. A rule therefore finds its model by
the path that it names.
"""

from collections.abc import Callable
from typing import Any

from jaxdiff.checks import require


def parts_of(open: Callable[[str], Any], *paths: str) -> dict[str, Any]:
    """The models of some paths, as the `load` of a rule returns them."""
    return {path: open(path) for path in paths}


def opened(frozen: Any, name: str, path: str) -> Any:
    """The model of a path.

    Raises:
      ValueError: the path was not opened: the model was loaded for other guidance.
    """
    good = isinstance(frozen, dict) and path in frozen
    require(good, name, path, "runs that were opened with the model: jd.load(run, guidance=rule)")
    return frozen[path]
