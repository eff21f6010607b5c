"""A manifest of files: their sizes and checksums, and what has happened to them since."""

import json
import os
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from jaxdiff.files import write_atomically

FORMAT = 2
_CHUNK = 1 << 22


def write(directory: Path) -> None:
    """Writes `manifest.json` for the files below `directory`, once all of them are on the disk."""
    names = sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())
    files = dict(zip(names, _digests(directory, names, flush=True), strict=True))
    write_atomically(directory / "manifest.json", json.dumps({"format": FORMAT, "files": files}).encode())


def _digests(directory: Path, names: Sequence[str], flush: bool = False) -> list[list[int] | OSError]:
    """Size and CRC-32 of each file, or why it cannot be read; several files at a time, as neither keeps Python busy.

    `flush` also forces them onto the disk, and lets errors through.
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


def damage(directory: Path) -> str | None:
    """Why the checkpoint in `directory` cannot be trusted, or None if every file is as it was written."""
    try:
        manifest = json.loads((directory / "manifest.json").read_bytes())
        version = manifest["format"]
        files = dict(manifest["files"])
    except OSError as error:
        return f"manifest.json: {error.strerror}"
    except (ValueError, KeyError, TypeError):
        return "manifest.json: unreadable"
    if version != FORMAT:
        return f"manifest.json: format {version!r}, where this version reads {FORMAT}"
    if "meta.json" not in files:
        return "manifest.json: incomplete"
    for (name, expected), found in zip(files.items(), _digests(directory, [*files]), strict=True):
        if isinstance(found, OSError):
            return f"{name}: {found.strerror}"
        if found[0] != expected[0]:
            return f"{name}: {found[0]} bytes long instead of {expected[0]}"
        if found[1] != expected[1]:
            return f"{name}: its contents have changed"
    return None
