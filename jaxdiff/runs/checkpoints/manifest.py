"""The manifest of a checkpoint: the size and the checksum of every file, and their verification."""

import json
import os
import stat
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from jaxdiff.checks import shortened
from jaxdiff.files import write_atomically
from jaxdiff.json_files import read_json

FORMAT = 3
_CHUNK = 1 << 22


def write(directory: Path) -> None:
    """Writes `manifest.json` for all files below `directory`, after forcing them onto the disk."""
    names = sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())
    files = dict(zip(names, _digests(directory, names, flush=True), strict=True))
    write_atomically(directory / "manifest.json", json.dumps({"format": FORMAT, "files": files}).encode())


def _digests(directory: Path, names: Sequence[str], flush: bool = False) -> list[list[int] | OSError]:
    """The size and the CRC-32 of each file, or the error that reading it raised.

    Several threads share the work: reading and checksums release Python's lock. With `flush`, each file is also forced
    onto the disk, and an error is raised instead of returned.
    """

    def digest(name: str) -> list[int] | OSError:
        size, crc = 0, 0
        try:
            with open(directory / name, "rb") as file:
                while chunk := file.read(_CHUNK):
                    size += len(chunk)
                    crc = zlib.crc32(chunk, crc)
                if flush:
                    os.fsync(file.fileno())
        except OSError as error:
            if flush:
                raise
            return error
        return [size, crc]

    with ThreadPoolExecutor(max_workers=min(16, os.cpu_count() or 1)) as pool:
        return list(pool.map(digest, names))


def damage(directory: Path, needed: Callable[[str], bool] = lambda _: True) -> str | None:
    """Says what is wrong with the checkpoint in `directory`; None if its files are as they were written.

    Args:
      directory: the checkpoint.
      needed: tells from a file's name, relative to `directory`, whether the file has to be verified.
    """
    try:
        manifest = read_json(directory / "manifest.json")
        version = manifest["format"]
        files = {name: (size, crc) for name, (size, crc) in manifest["files"].items()}
    except OSError as error:
        return f"manifest.json: {error.strerror}"
    except (ValueError, KeyError, TypeError, AttributeError):
        return "manifest.json: unreadable"
    if version != FORMAT:
        return f"manifest.json: format {shortened(repr(version), 20)}, but this version reads {FORMAT}"
    if "meta.json" not in files:
        return "manifest.json: incomplete"
    # A manifest may name anything on this machine, and a checkpoint may hold links, pipes and devices: the files that
    # are read are those that the directory itself holds.
    held = {str(path.relative_to(directory)): path.lstat() for path in directory.rglob("*")}
    for name, status in held.items():
        if needed(name) and not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
            return f"{name}: is not a regular file"
    names = [*filter(needed, files)]
    for name in names:
        if name not in held or not stat.S_ISREG(held[name].st_mode):
            return f"{name}: there is no such file"
        if held[name].st_size != files[name][0]:
            return f"{name}: {held[name].st_size} bytes long instead of {files[name][0]}"
    for name, found in zip(names, _digests(directory, names), strict=True):
        if isinstance(found, OSError):
            return f"{name}: {found.strerror}"
        if found[1] != files[name][1]:
            return f"{name}: its contents have changed"
    return None
