"""One save: from arrays on devices to a complete directory."""

import contextlib
import json
import os
import shutil
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax

from jaxdiff.distributed.collectives import gather
from jaxdiff.files import sync_directory, write_atomically
from jaxdiff.runs.checkpoints import arrays, leaves, manifest
from jaxdiff.runs.checkpoints.errors import CheckpointError
from jaxdiff.runs.checkpoints.retention import leftovers, steps_in

# A failing process renames the first file to the second. A rename works even on a full disk.
_GOING, _FAILED = "going", "failed"
_POLL = 0.5  # seconds between two looks for the second file

ELSEWHERE = "it failed on another process"
"""The reason that a process gives if it knows only that another process failed."""


def make_room(temporary: Path, step: int, broken: Iterable[int]) -> int:
    """Prepares the directory for a save.

    Removes the remains of failed saves, moves broken checkpoints aside, and makes `temporary` for the new one.

    Returns:
      The newest step on disk, -1 for none. `temporary` is made only if that step is older than `step`.
    """
    directory = temporary.parent
    directory.mkdir(parents=True, exist_ok=True)
    for leftover in leftovers(directory):
        shutil.rmtree(leftover, ignore_errors=True)
    for bad in broken:
        aside = directory / f"{bad}.broken"
        shutil.rmtree(aside, ignore_errors=True)
        os.rename(directory / str(bad), aside)
    latest = max(steps_in(directory), default=-1)
    if latest < step:
        temporary.mkdir()
        try:
            (temporary / _GOING).touch()
        except OSError:
            remove(temporary)
            raise
    return latest


def remove(temporary: Path, patience: int = 0) -> None:
    """Removes the files of a failed save, since a thread of Orbax may still be writing, for three seconds at most.

    Args:
      temporary: the directory of the save.
      patience: how many tenths of a second the directory has to stay away.
    """
    gone = 0
    for _ in range(30):
        shutil.rmtree(temporary, ignore_errors=True)
        gone = 0 if temporary.exists() else gone + 1
        if gone > patience:
            return
        time.sleep(0.1)


def compare(temporary: Path, meta: Mapping[str, Any]) -> None:
    """Raises an error on all processes unless all of them save the same thing into the same directory."""
    same = zlib.crc32(json.dumps([meta["iterator"], meta["config"]]).encode())
    answers = [text.split(" ", 2) for text in gather(f"{int((temporary / _GOING).exists())} {same} {temporary}")]
    place = answers[0][2]
    for process, answer in enumerate(answers):
        if answer[0] != "1":
            raise CheckpointError(
                f"{place}: the first process made this directory, but process {process} does not find it; all "
                "processes must save the same step into one shared directory"
            )
        if answer[1] != answers[0][1]:
            raise CheckpointError(
                f"{place}: process {process} saves another iterator_state or config than the first process"
            )


def start(
    temporary: Path, flat: Mapping[str, Any], table: Mapping[str, leaves.LeafInfo], meta: Mapping[str, Any]
) -> Callable[[], None]:
    """Copies the arrays off the devices and starts to write them.

    Args:
      temporary: the directory that `make_room` made.
      flat: the arrays by name.
      table: what the arrays are.
      meta: the contents of `meta.json`.

    Returns:
      A function that finishes the save, on any thread. An error of the start is raised there too: otherwise one process
      would raise while the others go on.
    """
    response, failure = None, None
    try:
        response = arrays.start_save(temporary / "state", flat)
    except Exception as error:
        failure = error

    def finish() -> None:
        try:
            if failure is not None:
                raise failure
            _await(response, temporary)
            if jax.process_index() == 0:
                _commit(temporary, table, meta)
        except BaseException:
            with contextlib.suppress(OSError):
                os.rename(temporary / _GOING, temporary / _FAILED)
            raise

    return finish


def _await(response: Any, temporary: Path) -> None:
    """Waits until Orbax has finished, or until another process has marked the save as failed."""
    deadline = time.monotonic() + arrays.TIMEOUT
    while True:
        try:
            return response.result(timeout=_POLL)
        except TimeoutError:
            if (temporary / _FAILED).exists():
                raise CheckpointError(ELSEWHERE) from None
            if time.monotonic() > deadline:
                raise


def _commit(temporary: Path, table: Mapping[str, leaves.LeafInfo], meta: Mapping[str, Any]) -> None:
    """Adds the remaining files, and gives the directory its final name.

    Raises:
      CheckpointError: Orbax has not written what it was given.
    """
    if reason := arrays.lacking(temporary / "state", table):
        raise CheckpointError(reason)
    write_atomically(temporary / "meta.json", json.dumps(meta).encode())
    os.unlink(temporary / _GOING)
    manifest.write(temporary)
    for directory in (entry for entry in temporary.rglob("*") if entry.is_dir()):
        sync_directory(directory)
    os.rename(temporary, temporary.with_name(str(meta["step"])))
    sync_directory(temporary.parent)
