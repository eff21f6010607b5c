"""A run on disk: one directory that is enough to resume training and to sample.

The directory holds `config.json`, `checkpoints/`, `metrics.jsonl`, `samples/*.png`, TensorBoard's
`events.out.tfevents.*` and `trainer.lock`. Some settings add `snapshots/`, `averages/`, `profile/`, `wandb/` and
`wandb_id`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import json
import os
import socket
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxdiff.files import write_atomically
from jaxdiff.json_files import read_json
from jaxdiff.logging.names import METRICS, SAMPLES
from jaxdiff.runs.place import directory_for_checkpoints


class RunError(ValueError):
    """A run directory cannot be used. The error is one line with the path and the reason."""


@dataclasses.dataclass(frozen=True)
class Run:
    """The paths of a run. `create_run` makes the directory, and `open_run` checks that it is there."""

    directory: Path

    @classmethod
    def at(cls, directory: str | os.PathLike[str]) -> Run:
        """The run in a directory, which need not exist.

        Raises:
          RunError: checkpoints cannot be in this directory.
        """
        try:
            return cls(directory_for_checkpoints(directory, "run directory"))
        except ValueError as error:
            raise RunError(str(error)) from error

    @property
    def config(self) -> Path:
        """The file that `write_config` writes and `read_config` reads."""
        return self.directory / "config.json"

    @property
    def checkpoints(self) -> Path:
        """The checkpoints of training, in the layout of `jaxdiff.runs.checkpoints.Checkpoints`."""
        return self.directory / "checkpoints"

    @property
    def snapshots(self) -> Path:
        """The snapshots of averages that training takes: `snapshots/STEP/`, each `{name of an average: average}`."""
        return self.directory / "snapshots"

    @property
    def averages(self) -> Path:
        """The averages made after training: `averages/NAME/STEP/`, each `{"ema": {NAME: average}}`."""
        return self.directory / "averages"

    @property
    def metrics(self) -> Path:
        """The metrics, one JSON object per line, as `jaxdiff.logging.logger.Logger` writes them."""
        return self.directory / METRICS

    @property
    def samples(self) -> Path:
        """The directory of sample pictures."""
        return self.directory / SAMPLES


def create_run(directory: str | os.PathLike[str]) -> Run:
    """Makes a run directory, unless it is there already, and tests that one can write to it.

    Raises:
      RunError: the path is a file, or cannot be created or written to.
    """
    run = Run.at(directory)
    try:
        for path in (run.directory, run.checkpoints, run.samples):
            path.mkdir(parents=True, exist_ok=True)
            # On a read-only or remote file system permission bits do not show whether writing works.
            with tempfile.TemporaryFile(dir=path) as file:
                file.write(b"x")  # a full disk takes files without contents
                file.flush()
    except FileExistsError as error:
        raise RunError(f"run directory {run.directory}: {_no_directory(Path(error.filename))}") from error
    except OSError as error:
        raise RunError(f"run directory {run.directory}: cannot be written to: {error.strerror}") from error
    return run


def open_run(directory: str | os.PathLike[str]) -> Run:
    """An existing run, for reading.

    Raises:
      RunError: there is no such directory, or it holds no `config.json`.
    """
    run = Run.at(directory)
    if not run.directory.is_dir():
        raise RunError(f"run directory {run.directory}: {_no_directory(run.directory)}")
    if not run.config.is_file():
        raise RunError(f"run directory {run.directory}: holds no config.json, so it is not a run")
    return run


def _no_directory(path: Path) -> str:
    """Why a path is no directory, in words."""
    if path.is_symlink() and not path.exists():
        return f"{path} is a link to {os.readlink(path)}, which does not exist"
    return f"{path} is a file, not a directory" if path.exists() else "there is no such directory"


def read_config(run: Run) -> dict[str, Any]:
    """The contents of `config.json`.

    Raises:
      RunError: the file is missing, unreadable, or not a JSON object. The error names the file, and the line of a
        syntax error.
    """
    try:
        config = read_json(run.config)
    except OSError as error:
        raise RunError(f"{run.config}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise RunError(f"{run.config}: is not UTF-8 text ({error.reason} at byte {error.start})") from error
    except json.JSONDecodeError as error:
        raise RunError(f"{run.config}, line {error.lineno}, column {error.colno}: {error.msg}") from error
    except ValueError as error:
        raise RunError(f"{run.config}: {error}") from error
    if not isinstance(config, dict):
        raise RunError(f"{run.config}: holds a JSON {type(config).__name__}, not an object")
    return config


def write_config(run: Run, config: Mapping[str, Any]) -> None:
    """Writes `config.json`. If this fails, the old file stays as it is.

    Raises:
      TypeError: `config` holds a value that JSON cannot express.
      ValueError: `config` holds a NaN or an infinity.
      OSError: the file cannot be written.
    """
    try:
        text = json.dumps(config, indent=2, allow_nan=False)
    except TypeError as error:
        raise TypeError(f"config: cannot be written as JSON: {error}") from error
    except ValueError as error:
        raise ValueError(f"config: cannot be written as JSON: {error}") from error
    write_atomically(run.config, (text + "\n").encode())


def require_in_place(run: Run) -> None:
    """Raises a RunError if the directory of a run that this process trains has been moved or deleted.

    An error of the file system says nothing about the place.
    """
    with contextlib.suppress(OSError):
        there = run.config.exists()
        lock = run.directory / "trainer.lock"
        if there and lock.exists():
            there = lock.read_text(errors="replace") in ("", _holder())
        if not there:
            raise RunError(f"run directory {run.directory}: was moved, deleted or taken over while it was trained")


def _holder() -> str:
    """What a lock says of this process."""
    return f"process {os.getpid()} on {socket.gethostname()}\n"


_held: set[int] = set()


def _forget_locks() -> None:
    """Closes a forked child's copies of the descriptors, which would keep the locks for as long as the child lives."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_forget_locks)


@contextlib.contextmanager
def lock_run(run: Run) -> Iterator[None]:
    """Locks a run against other trainers until the block ends or this process dies.

    Raises:
      RunError: another process holds the lock. The error names this process.
    """
    path = run.directory / "trainer.lock"
    try:
        # What a link leads to would lose its contents.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise RunError(f"{path}: {'is a link' if error.errno == errno.ELOOP else error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        owner = os.read(descriptor, 200).decode(errors="replace").strip()
        os.close(descriptor)
        if not isinstance(error, BlockingIOError):
            raise RunError(f"{path}: cannot be locked: {error.strerror}") from error
        holder = owner or "another process"
        raise RunError(f"run directory {run.directory}: {holder} is training it; wait for it or stop it") from error
    _held.add(descriptor)
    try:
        os.ftruncate(descriptor, 0)
        with contextlib.suppress(OSError):  # of a full disk: the lock is held without its holder's name
            os.write(descriptor, _holder().encode())
        yield
    finally:
        if descriptor in _held:
            _held.remove(descriptor)
            # The file stays. If it were removed, two trainers could lock two files of the same name.
            os.ftruncate(descriptor, 0)
            os.close(descriptor)
