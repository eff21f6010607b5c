"""Files of runs and files that a user has named, and Python files that are imported by their paths."""

import contextlib
import errno
import importlib.util
import os
import stat
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import BinaryIO, cast

from jaxdiff.checks import message

_loaded: set[str] = set()


def require_regular(path: str | os.PathLike[str]) -> int:
    """The size of a regular file. A link may lead to any file of this machine, and a pipe or a device has no end.

    Raises:
      OSError: there is no such file, or it is no regular file.
    """
    status = os.lstat(path)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "is not a regular file", os.fspath(path))
    return status.st_size


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


def write_output(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes a file that a user has named. Links are followed, and devices and FIFOs stay: the data go through them.

    All other files are written by `write_atomically`, which replaces whatever has their name. So no link in a run
    directory makes a run write elsewhere.

    Raises:
      OSError: the file cannot be written, or nobody reads from the FIFO.
    """
    if os.path.isfile(path) or not os.path.exists(path):
        write_atomically(os.path.realpath(path), data)
        return
    # Without O_NONBLOCK, a FIFO that nobody reads from would keep this process waiting for ever.
    with open(os.open(path, os.O_WRONLY | os.O_NONBLOCK), "wb") as file:
        os.set_blocking(file.fileno(), True)
        file.write(data)


def open_own(path: str | os.PathLike[str], mode: str) -> BinaryIO:
    """Opens a file of a run without a buffer, for `rb` or `ab`. Links are not followed, and no FIFO is waited for.

    A run directory may come from anybody, and a link in it may lead anywhere.

    Raises:
      OSError: the file cannot be opened, or is no regular file.
    """
    if os.path.lexists(path):
        require_regular(path)

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)

    return cast(BinaryIO, open(path, mode, buffering=0, opener=opener))


def sync_directory(directory: str | os.PathLike[str]) -> None:
    """Forces the entries of a directory (new and renamed files) onto the disk."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def expand_user(name: str, path: str | os.PathLike[str]) -> Path:
    """A path in which `~` stands for a home directory, without it.

    Raises:
      ValueError: there is no such user, or this user has no home. The error begins with `name`, the setting.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ValueError(message(name, os.fspath(path), "paths without ~, since this home is not known")) from error


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
