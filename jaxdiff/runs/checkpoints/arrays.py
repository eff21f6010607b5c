"""Arrays on disk: all calls of Orbax, and of TensorStore, with which Orbax writes.

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
import tensorstore
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


def _place_of(name: str) -> str:
    """The subdirectory of a named array."""
    part, *below = leaves.words_of(name)
    return _place(part) if below else _SINGLE


def _by_place(flat: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Named arrays as Orbax is given them: for each subdirectory, nested dicts."""
    places: dict[str, dict[str, Any]] = {}
    for name, leaf in flat.items():
        places.setdefault(_place_of(name), {})[name] = leaf
    return {place: leaves.nest(members, unescape=False) for place, members in places.items()}


def start_save(directory: Path, flat: Mapping[str, Any]) -> Any:
    """Starts to write named arrays. `result(timeout)` of the returned object waits for the end."""
    context = ocp.Context()
    context.async_options.timeout_secs = TIMEOUT
    with context:
        return ocp.save_checkpointables_async(directory, _by_place(flat))


def lacking(directory: Path, table: Mapping[str, leaves.LeafInfo]) -> str | None:
    """Says which array the files in `directory` do not hold whole, in its shape and type; None if there is none.

    Orbax succeeds without a word where it finds the files of no process, or not of all: it merges those that it sees.
    It also reads shapes from the files, and allocates them. Only the index of the arrays is read here.
    """
    context, opened, counted = tensorstore.Context(), {}, {}
    for name in (name for name, info in table.items() if 0 not in info.shape):
        base = {"driver": "file", "path": f"{directory / _place_of(name)}/"}
        spec = {"driver": "auto", "kvstore": {"driver": "ocdbt", "base": base, "path": f"{name}/"}}
        opened[name] = tensorstore.open(spec, open=True, read=True, context=context)
    for name, future in opened.items():
        shape, dtype = table[name].stored_shape, table[name].stored_dtype
        try:
            array = future.result()
        except ValueError:
            return f"the files do not hold {name}"
        chunk = array.chunk_layout.write_chunk.shape or ()  # an array without axes has no shape of chunks
        larger = any(c is None or c > n for c, n in zip(chunk, shape, strict=False))
        if array.shape != shape or array.dtype.name != dtype or larger:
            return f"the files do not hold {name} as {dtype} of shape {shape}"
        counted[name] = array.storage_statistics(query_fully_stored=True)
    parted = [name for name, statistics in counted.items() if not statistics.result().fully_stored]
    return f"the files hold {parted[0]} in part only" if parted else None


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
