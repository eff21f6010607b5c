"""Arrays on disk: all that jaxdiff asks of Orbax.

Of several processes each writes its own shards. Orbax copies them off the devices before `start_save` returns, and its
background threads meet at barriers of JAX's coordination service: they run nothing on the devices.
"""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

from jaxdiff.runs.checkpoints import leaves

TIMEOUT = 1200
"""Seconds after which Orbax gives up a save."""


class _WithoutOrbax(logging.Filter):
    """Drops Orbax's log records: whatever goes wrong there reaches the caller as one error."""

    def filter(self, record: logging.LogRecord) -> bool:
        return f"{os.sep}orbax{os.sep}" not in record.pathname


logging.getLogger("absl").addFilter(_WithoutOrbax())


def start_save(directory: Path, tree: Any) -> Any:
    """Starts writing nested dicts of arrays; `result(timeout)` of what is returned waits for the end."""
    context = ocp.Context()
    context.async_options.timeout_secs = TIMEOUT
    with context:
        return ocp.save_async(directory, tree)


def load(directory: Path, wanted: Mapping[str, tuple[leaves.LeafInfo, Any]]) -> dict[str, Any]:
    """Reads the named leaves; `wanted` pairs each with its template, None for "as it was saved".

    Every process reads what its own devices need, straight onto them.
    """
    flat = {name: leaves.abstract(info, template) for name, (info, template) in wanted.items() if 0 not in info.shape}
    loaded: dict[str, Any] = {}
    if flat:
        context = ocp.Context()
        context.pytree_options.loading.partial_load = True
        with context:
            tree = ocp.load(directory, leaves.nest(flat))
        loaded = {leaves.leaf_name(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}
    return {name: leaves.to_leaf(loaded.get(name), info, template) for name, (info, template) in wanted.items()}
