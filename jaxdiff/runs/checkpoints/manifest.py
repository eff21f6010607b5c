"""The manifest of a checkpoint: the size and the checksum of every file, and their verification."""

import json
import os
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from jaxdiff.files import write_atomically

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
        manifest = json.loads((directory / "manifest.json").read_bytes())
        version = manifest["format"]
        files = dict(manifest["files"])
    except OSError as error:
        return f"manifest.json: {error.strerror}"
    except (ValueError, KeyError, TypeError):
        return "manifest.json: unreadable"
    if version != FORMAT:
        return f"manifest.json: format {version!r}, but this version reads {FORMAT}"
    if "meta.json" not in files:
        return "manifest.json: incomplete"
    names = [*filter(needed, files)]
    for name, found in zip(names, _digests(directory, names), strict=True):
        size, crc = files[name]
        if isinstance(found, OSError):
            return f"{name}: {found.strerror}"
        if found[0] != size:
            return f"{name}: {found[0]} bytes long instead of {size}"
        if found[1] != crc:
            return f"{name}: its contents have changed"
    return None
