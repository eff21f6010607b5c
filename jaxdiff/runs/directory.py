"""A run on disk: one directory that is enough to go on training from, and to sample from.

It holds `config.json`, `checkpoints/`, `metrics.jsonl`, `samples/*.png`, TensorBoard's `events.out.tfevents.*`, and
`trainer.lock`; with the settings that ask for them `snapshots/` and `averages/`, `profile/`, `wandb/` and `wandb_id`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import socket
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxdiff.files import write_atomically


class RunError(ValueError):
    """A run directory cannot be used; one line that names the path and the reason."""


@dataclasses.dataclass(frozen=True)
class Run:
    """The paths of a run. Makes and checks nothing: see `create_run` and `open_run`."""

    directory: Path

    @property
    def config(self) -> Path:
        """The configuration, as JSON."""
        return self.directory / "config.json"

    @property
    def checkpoints(self) -> Path:
        """The directory of `jaxdiff.runs.checkpoints.Checkpoints`."""
        return self.directory / "checkpoints"

    @property
    def snapshots(self) -> Path:
        """The snapshots of averages, taken while training: `snapshots/STEP/`, each `{average's name: average}`."""
        return self.directory / "snapshots"

    @property
    def averages(self) -> Path:
        """The averages made after training: `averages/NAME/STEP/`, each `{"ema": {NAME: average}}`."""
        return self.directory / "averages"

    @property
    def metrics(self) -> Path:
        """One JSON object a line, written by `jaxdiff.logging.logger.Logger`."""
        return self.directory / "metrics.jsonl"

    @property
    def samples(self) -> Path:
        """The directory of sample pictures."""
        return self.directory / "samples"


def create_run(directory: str | os.PathLike[str]) -> Run:
    """Makes a run directory, or takes up the one that is there, and proves that it can be written to.

    Raises:
        RunError: the path is a file, or cannot be created or written to.
    """
    run = Run(Path(directory).absolute())
    try:
        for path in (run.directory, run.checkpoints, run.samples):
            path.mkdir(parents=True, exist_ok=True)
            # The permission bits do not tell about read-only and remote file systems: trying does.
            with tempfile.TemporaryFile(dir=path):
                pass
    except FileExistsError as error:
        raise RunError(f"run directory {run.directory}: {error.filename} is a file, not a directory") from error
    except OSError as error:
        raise RunError(f"run directory {run.directory}: cannot be written to: {error.strerror}") from error
    return run


def open_run(directory: str | os.PathLike[str]) -> Run:
    """An existing run, for reading.

    Raises:
        RunError: there is no such directory, or it holds no `config.json`.
    """
    run = Run(Path(directory).absolute())
    if not run.directory.is_dir():
        raise RunError(f"run directory {run.directory}: there is no such directory")
    if not run.config.is_file():
        raise RunError(f"run directory {run.directory}: holds no config.json, so it is not a run")
    return run


def read_config(run: Run) -> dict[str, Any]:
    """The configuration in `config.json`.

    Raises:
        RunError: the file is missing, unreadable, or not a JSON object; names the file, and the line where it can.
    """
    try:
        text = run.config.read_text(encoding="utf-8")
    except OSError as error:
        raise RunError(f"{run.config}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise RunError(f"{run.config}: is not UTF-8 text ({error.reason} at byte {error.start})") from error
    try:
        config = json.loads(text)
    except json.JSONDecodeError as error:
        raise RunError(f"{run.config}, line {error.lineno}, column {error.colno}: {error.msg}") from error
    if not isinstance(config, dict):
        raise RunError(f"{run.config}: holds a JSON {type(config).__name__}, not an object")
    return config


def write_config(run: Run, config: Mapping[str, Any]) -> None:
    """Writes `config.json`, whole or not at all.

    Raises:
        TypeError: `config` holds something that JSON cannot express.
        ValueError: `config` holds a NaN or an infinity.
        OSError: the file cannot be written; the old one is unharmed.
    """
    try:
        text = json.dumps(config, indent=2, allow_nan=False)
    except TypeError as error:
        raise TypeError(f"config: cannot be written as JSON: {error}") from error
    except ValueError as error:
        raise ValueError(f"config: cannot be written as JSON: {error}") from error
    write_atomically(run.config, (text + "\n").encode())


_held: set[int] = set()


def _forget_locks() -> None:
    """In a forked child: a copy of the descriptor would keep the lock for as long as the child lives."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_forget_locks)


@contextlib.contextmanager
def lock_run(run: Run) -> Iterator[None]:
    """Keeps every other trainer off the run until the block ends or this process dies, however it dies.

    Raises:
        RunError: another process holds the lock; names it.
    """
    path = run.directory / "trainer.lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise RunError(f"{path}: {error.strerror}") from error
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
        os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        yield
    finally:
        if descriptor in _held:
            _held.remove(descriptor)
            # The file stays: removing it would let two trainers hold locks on two files of one name.
            os.ftruncate(descriptor, 0)
            os.close(descriptor)
