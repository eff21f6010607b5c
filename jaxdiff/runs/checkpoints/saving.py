"""One save: from arrays on devices to a directory that is whole."""

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
from jaxdiff.runs.checkpoints import arrays, manifest
from jaxdiff.runs.checkpoints.errors import CheckpointError
from jaxdiff.runs.checkpoints.retention import steps_in

# The mark of a save that goes well, renamed to that of one that does not: on a full disk a file can still be renamed.
_GOING, _FAILED = "going", "failed"
_LOOK_EVERY = 0.5  # seconds between looks for it

ELSEWHERE = "it failed on another process"
"""What a process says that knows of a failure, but not of its reason."""


def make_room(temporary: Path, step: int, broken: Iterable[int]) -> int:
    """Clears what failed saves left, moves broken checkpoints aside, and makes `temporary`, where a save may write.

    Returns the newest step there is, -1 for none; if that is not older than `step`, `temporary` is not made.
    """
    directory = temporary.parent
    directory.mkdir(parents=True, exist_ok=True)
    for leftover in directory.glob("tmp.*"):
        shutil.rmtree(leftover, ignore_errors=True)
    for bad in broken:
        aside = directory / f"{bad}.broken"
        shutil.rmtree(aside, ignore_errors=True)
        os.rename(directory / str(bad), aside)
    latest = max(steps_in(directory), default=-1)
    if latest < step:
        temporary.mkdir()
        (temporary / _GOING).touch()
    return latest


def compare(temporary: Path, described: Mapping[str, Any]) -> None:
    """Raises on all processes unless all of them save the same thing to the same place."""
    same = zlib.crc32(json.dumps([described["iterator"], described["config"]]).encode())
    answers = [text.split(" ", 2) for text in gather(f"{int((temporary / _GOING).exists())} {same} {temporary}")]
    place = answers[0][2]
    for process, answer in enumerate(answers):
        if answer[0] != "1":
            raise CheckpointError(
                f"{place}: made by the first process, but process {process} does not find it; all must save the same "
                "step, into one directory that they share"
            )
        if answer[1] != answers[0][1]:
            raise CheckpointError(f"{place}: process {process} saves another iterator_state or config than the first")


def start(temporary: Path, tree: Any, described: Mapping[str, Any]) -> Callable[[], None]:
    """Copies the arrays off the devices and starts writing them; what is returned does the rest, on any thread.

    That includes raising what went wrong from the start, so that no process raises while the others go on.
    """
    response, failure = None, None
    try:
        response = arrays.start_save(temporary / "state", tree)
    except Exception as error:
        failure = error

    def finish() -> None:
        try:
            if failure is not None:
                raise failure
            _await(response, temporary)
            if jax.process_index() == 0:
                _commit(temporary, described)
        except BaseException:
            with contextlib.suppress(OSError):
                os.rename(temporary / _GOING, temporary / _FAILED)
            raise

    return finish


def _await(response: Any, temporary: Path) -> None:
    """Waits for Orbax to end, or for the mark of another process's failure."""
    deadline = time.monotonic() + arrays.TIMEOUT
    while True:
        try:
            return response.result(timeout=_LOOK_EVERY)
        except TimeoutError:
            if (temporary / _FAILED).exists():
                raise CheckpointError(ELSEWHERE) from None
            if time.monotonic() > deadline:
                raise


def _commit(temporary: Path, described: Mapping[str, Any]) -> None:
    """Adds what makes the directory a checkpoint, and gives it its name."""
    write_atomically(temporary / "meta.json", json.dumps(described).encode())
    os.unlink(temporary / _GOING)
    manifest.write(temporary)
    for directory in (entry for entry in temporary.rglob("*") if entry.is_dir()):
        sync_directory(directory)
    os.rename(temporary, temporary.with_name(str(described["step"])))
    sync_directory(temporary.parent)
