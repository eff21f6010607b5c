"""Arrays on disk: all calls of Orbax.

With several processes each process writes its own shards. Orbax copies the shards off the devices before `start_save`
returns. Its background threads meet at barriers of JAX's coordination service and run nothing on the devices.
"""

import logging
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jax
from orbax.checkpoint import v1 as ocp

from jaxdiff.runs.checkpoints import leaves

TIMEOUT = 1200
"""Seconds after which Orbax gives up a save."""

_SINGLE = "leaves"  # the subdirectory of all top-level entries that are single arrays


class _WithoutOrbax(logging.Filter):
    """Drops Orbax's log records: the caller learns of every failure from one error."""

    def filter(self, record: logging.LogRecord) -> bool:
        return f"{os.sep}orbax{os.sep}" not in record.pathname


logging.getLogger("absl").addFilter(_WithoutOrbax())


def is_read_for(names: Collection[str] | None, file: str) -> bool:
    """Whether a file, relative to the directory of the arrays, is read to load the parts `names`; None for all."""
    place, _, inside = file.partition("/")
    return names is None or not inside or place == _SINGLE or place in map(_place, names)


def _place(part: str) -> str:
    # The prefix keeps apart the names that Orbax reserves.
    return f"part.{quote(part.replace('.', '%2E'), safe='')}"


def _by_place(flat: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Named arrays as Orbax is given them: for each subdirectory, nested dicts."""
    places: dict[str, dict[str, Any]] = {}
    for name, leaf in flat.items():
        part, *below = leaves.words_of(name)
        places.setdefault(_place(part) if below else _SINGLE, {})[name] = leaf
    return {place: leaves.nest(members, unescape=False) for place, members in places.items()}


def start_save(directory: Path, flat: Mapping[str, Any]) -> Any:
    """Starts to write named arrays. `result(timeout)` of the returned object waits for the end."""
    context = ocp.Context()
    context.async_options.timeout_secs = TIMEOUT
    with context:
        return ocp.save_checkpointables_async(directory, _by_place(flat))


def load(directory: Path, wanted: Mapping[str, tuple[leaves.LeafInfo, Any]]) -> dict[str, Any]:
    """Reads the named leaves. `wanted` pairs the record of each leaf with its template; None restores it as saved.

    Every process reads the data of its own devices, directly onto them.
    """
    flat = {name: leaves.abstract(info, template) for name, (info, template) in wanted.items() if 0 not in info.shape}
    loaded: dict[str, Any] = {}
    if flat:
        context = ocp.Context()
        context.pytree_options.loading.partial_load = True
        with context:
            tree = ocp.load_checkpointables(directory, _by_place(flat))
        for members in tree.values():
            for path, leaf in jax.tree_util.tree_flatten_with_path(members)[0]:
                loaded[leaves.stored_name(path)] = leaf
    return {name: leaves.to_leaf(loaded.get(name), info, template) for name, (info, template) in wanted.items()}
