"""A manifest of files: their sizes and checksums, and what has happened to them since."""

import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

from jaxdiff.training.runs import write_atomically

FORMAT = 1
_CHUNK = 1 << 22


def write(directory: Path) -> None:
    """Writes `manifest.json` for the files below `directory`, once all of them are on the disk."""
    files = {str(path.relative_to(directory)): _digest(path, flush=True) for path in _files(directory)}
    write_atomically(directory / "manifest.json", json.dumps({"format": FORMAT, "files": files}).encode())


def _files(directory: Path) -> Iterator[Path]:
    return (path for path in sorted(directory.rglob("*")) if path.is_file())


def _digest(path: Path, flush: bool = False) -> list[int]:
    """Size and CRC-32 of a file; `flush` also forces it onto the disk."""
    size, crc = 0, 0
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            size += len(chunk)
            crc = zlib.crc32(chunk, crc)
        if flush:
            os.fsync(file.fileno())
    return [size, crc]


def damage(directory: Path) -> str | None:
    """Why the checkpoint in `directory` cannot be trusted, or None if every file is as it was written."""
    try:
        manifest = json.loads((directory / "manifest.json").read_bytes())
        files = dict(manifest["files"])
        version = manifest["format"]
    except OSError as error:
        return f"manifest.json: {error.strerror}"
    except (ValueError, KeyError, TypeError):
        return "manifest.json: unreadable"
    if version != FORMAT:
        return f"manifest.json: format {version!r}, where this version reads {FORMAT}"
    if "meta.json" not in files:
        return "manifest.json: incomplete"
    for name, (size, crc) in files.items():
        try:
            found = _digest(directory / name)
        except OSError as error:
            return f"{name}: {error.strerror}"
        if found[0] != size:
            return f"{name}: {found[0]} bytes long instead of {size}"
        if found[1] != crc:
            return f"{name}: its contents have changed"
    return None
