"""JSON files that may come from a stranger."""

import json
import os
from pathlib import Path
from typing import Any

from jaxdiff.files import require_regular

_LARGEST = 2**30  # bytes of a file
_DEEPEST = 100  # lists and objects inside each other


def read_json(path: str | os.PathLike[str]) -> Any:
    """The contents of a JSON file, which may come from a stranger.

    Raises:
      OSError: there is no such file, or it is no regular file.
      ValueError: the file is no JSON in UTF-8, or larger or more deeply nested than the files of this library.
    """
    if require_regular(path) > _LARGEST:
        raise ValueError(f"is larger than {_LARGEST} bytes")
    return parse_json(Path(path).read_bytes().decode())


def parse_json(text: str) -> Any:
    """The value of a JSON text.

    Raises:
      ValueError: the text is no JSON, or is nested deeper than the files of this library.
    """
    too_deep = f"is nested deeper than {_DEEPEST} levels"
    try:
        tree = json.loads(text)
    except RecursionError as error:
        raise ValueError(too_deep) from error
    level = [tree]
    for _ in range(_DEEPEST):
        nodes = [node for node in level if isinstance(node, dict | list)]
        level = [inner for node in nodes for inner in (node.values() if isinstance(node, dict) else node)]
    if level:
        raise ValueError(too_deep)
    return tree
