"""Files of arrays by name, read without running anything that they hold.

A file of safetensors begins with a header that says where each array lies. A large model is several such files, which
an index file lists.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxdiff.checks import one_line, require
from jaxdiff.extras import needed

_PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".pickle")
_INDEX = ".safetensors.index.json"
# The header of a file of ten thousand arrays has about a megabyte.
_LONGEST_HEADER = 100_000_000


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file, or of the files that an index lists, by name.

    Args:
      path: a `.safetensors` file, a `.safetensors.index.json` file or an `.npz` file.

    Raises:
      ValueError: the file is missing, is a pickle, or cannot be read; or an index names files outside of its folder.
    """
    suffixes = "files of the type .safetensors, .safetensors.index.json or .npz"
    if path.suffix in _PICKLES:
        raise ValueError(
            f"{path}: a pickle, which can run any program when it is read; "
            "allowed are .safetensors files, which the publishers of most models offer, too"
        )
    require(path.is_file(), "file of weights", str(path), f"{suffixes} that exist")
    if path.name.endswith(_INDEX):
        return _read_shards(path)
    require(path.suffix in (".safetensors", ".npz"), "file of weights", str(path), suffixes)
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return dict(arrays)
        _check_header(path)
        with needed("reading safetensors"):
            from safetensors.numpy import load_file
        return dict(load_file(path))
    except ModuleNotFoundError:
        raise
    except Exception as error:  # of NumPy, `zipfile` and safetensors: the file may hold anything
        raise ValueError(f"{path}: cannot be read as a file of arrays: {one_line(error)}") from error


def array_of(tensors: Mapping[str, np.ndarray], name: str, axes: int = 1) -> np.ndarray:
    """The array of a name.

    Raises:
      ValueError: there is none, or it has fewer than `axes` axes.
    """
    if name not in tensors:
        raise ValueError(f"the weights have no array {name!r}")
    require(tensors[name].ndim >= axes, f"shape of {name}", tensors[name].shape, f"shapes of {axes} axes and more")
    return tensors[name]


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes arrays by name as a `.safetensors` file that Python libraries of other frameworks read."""
    with needed("writing safetensors"):
        from safetensors.numpy import save_file
    save_file({name: np.ascontiguousarray(array) for name, array in tensors.items()}, path, {"format": "pt"})


def read_json(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds.

    Raises:
      ValueError: the file is missing, or holds something else.
    """
    require(path.is_file(), "file", str(path), "files that exist")
    try:
        value = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: cannot be read as JSON: {one_line(error)}") from error
    require(isinstance(value, dict), "content of " + str(path), type(value).__name__, "objects of JSON")
    found: dict[str, Any] = value
    return found


def _check_header(path: Path) -> None:
    """Raises a ValueError if the header is longer than the file or than any model needs."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    most = min(_LONGEST_HEADER, path.stat().st_size - 8)
    if not 2 <= length <= most:
        raise ValueError(f"its header has {length} bytes; allowed are 2 to {most}")


def _read_shards(index: Path) -> dict[str, np.ndarray]:
    """The arrays of the files that an index lists, and no others."""
    places = read_json(index).get("weight_map")
    fits = isinstance(places, dict) and all(isinstance(place, str) for place in places.values())
    require(fits, f"weight_map of {index}", type(places).__name__, "objects from names to names of files")
    assert isinstance(places, dict)
    tensors: dict[str, np.ndarray] = {}
    for shard in sorted(set(places.values())):
        good = Path(shard).name == shard and shard.endswith(".safetensors")
        require(good, f"file in {index}", shard, "names of .safetensors files in the same folder")
        found = read_tensors(index.parent / shard)
        tensors |= {name: array for name, array in found.items() if places.get(name) == shard}
    missing = sorted(set(places) - set(tensors))
    require(not missing, f"arrays of {index}", missing[:3], "indices whose files hold all arrays that they list")
    return tensors
