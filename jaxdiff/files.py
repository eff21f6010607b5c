"""Places of checkpoints, files that are written completely or not at all, and Python files imported by their paths."""

import contextlib
import errno
import importlib.util
import json
import os
import stat
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

from jaxdiff.checks import require

_LARGEST = 2**30  # bytes of a JSON file
_DEEPEST = 100  # lists and objects inside each other in a JSON file
_loaded: set[str] = set()


def directory_for_checkpoints(path: str | os.PathLike[str], name: str = "directory") -> Path:
    """The absolute path of a directory, if checkpoints can be in it.

    Orbax takes a path for a pattern of file names, finds nothing there, and saves a checkpoint without arrays. It takes
    `gs:` and the like for the name of a server, and other bytes than UTF-8 for an error.

    Args:
      path: the directory, which need not exist.
      name: the name of the directory in the error.

    Raises:
      ValueError: Orbax cannot use the path; or the path is relative, and the working directory has been deleted.
    """
    try:
        absolute = Path(path).absolute()
    except FileNotFoundError as error:
        raise ValueError(f"{name} {str(path)!r}: the working directory has been deleted") from error
    text = str(absolute)
    utf_8 = text.encode(errors="ignore").decode() == text
    good = utf_8 and not set(text) & set("\0[*?\\") and not any(part.endswith(":") for part in absolute.parts)
    allowed = "local paths in UTF-8 without [ * ? \\ and without names that end with a colon"
    require(good, name, text, f"{allowed}; a link may lead to any directory")
    return absolute


def read_json(path: str | os.PathLike[str]) -> Any:
    """The contents of a JSON file, which may come from a stranger.

    Raises:
      OSError: there is no such file, or it is no regular file.
      ValueError: the file is no JSON in UTF-8, or larger or more deeply nested than the files of this library.
    """
    if require_regular(path) > _LARGEST:
        raise ValueError(f"is larger than {_LARGEST} bytes")
    return parse_json(Path(path).read_bytes().decode())


def require_regular(path: str | os.PathLike[str]) -> int:
    """The size of a regular file. A link may lead to any file of this machine, and a pipe or a device has no end.

    Raises:
      OSError: there is no such file, or it is no regular file.
    """
    status = os.lstat(path)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "is not a regular file", os.fspath(path))
    return status.st_size


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


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes a file. A reader sees the old or the new contents, never a part, even after a kill or a power failure.

    Raises:
      OSError: the file cannot be written. The error names it.
    """
    path = Path(path)
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                # `mkstemp` makes a file that only its owner may read; others may read results too.
                os.fchmod(file.fileno(), 0o644)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        sync_directory(path.parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def sync_directory(directory: str | os.PathLike[str]) -> None:
    """Forces the entries of a directory (new and renamed files) onto the disk."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def load_module(path: str | os.PathLike[str]) -> ModuleType:
    """Imports a .py file as the module `Path.stem`. The same file is run once.

    Another file of this name, which was imported by its path before, is replaced.

    Raises:
      ValueError: the file is no .py file, or has the name of a module that was imported by its name.
      Exception: whatever the file raises.
    """
    file = Path(path)
    name, known = file.stem, sys.modules.get(file.stem)
    if known is not None:
        if Path(getattr(known, "__file__", None) or "").resolve() == file.resolve():
            return known
        if name not in _loaded:
            raise ValueError(f"another module has the name {name!r} already")
    specification = importlib.util.spec_from_file_location(name, file)
    if specification is None or specification.loader is None:
        raise ValueError("the names of Python files end with .py")
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module  # dataclasses of the file look up their module here
    try:
        specification.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    _loaded.add(name)
    return module
