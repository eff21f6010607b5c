"""Data sets from folders of pictures."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxdiff.checks import message, one_line, require
from jaxdiff.data.checksums import Checksum, spaced
from jaxdiff.data.dataset import Dataset
from jaxdiff.data.fields import Field
from jaxdiff.data.picture_files import SUFFIXES, read_header, read_picture
from jaxdiff.data.pixels import Fit, check_size
from jaxdiff.data.sources import Examples
from jaxdiff.files import expand_user
from jaxdiff.json_files import parse_json


@dataclass(frozen=True, eq=False)
class FolderSource:
    """Pictures that are decoded when they are read.

    Attributes:
      root: the folder.
      names: the paths of the pictures below it.
      labels: their classes; empty for none.
      captions: their captions; empty for none.
      shape: the shape of every picture.
      size: side of the squares that pictures become; None for no change.
      fit: how a picture becomes a square.
    """

    root: Path
    names: tuple[str, ...]
    labels: tuple[int, ...]
    captions: tuple[str, ...]
    shape: tuple[int, int, int]
    size: int | None
    fit: Fit

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int, /) -> dict[str, Any]:
        path = self.root / self.names[index]
        pixels = read_picture(path, self.shape[-1], self.size, self.fit)
        if pixels.shape != self.shape:
            found, before = (f"{shape[1]}x{shape[0]}" for shape in (pixels.shape, self.shape))
            raise ValueError(f"{path} has {found} pixels; allowed are {before}, as when the folder was opened")
        record: dict[str, Any] = {"image": pixels}
        if self.labels:
            record["label"] = self.labels[index]
        if self.captions:
            record["caption"] = self.captions[index]
        return record

    def identity(self) -> str:
        """A checksum of the names, sizes, labels and captions of all files, and of the bytes of up to 10,000 of them.

        These are evenly spaced. The settings `size` and `fit`, which change the pictures, belong to the checksum too.

        Raises:
          ValueError: a file cannot be read.
        """
        found = Checksum().add(str(self.size), self.fit if self.size else "", str(self.shape))
        found.add(len(self), *self.names, str(self.labels), len(self.captions), *self.captions)
        try:
            found.add(*(os.stat(self.root / name).st_size for name in self.names))
            for index in spaced(len(self)):
                found.add((self.root / self.names[index]).read_bytes())
        except OSError as error:
            raise ValueError(f"a picture below {self.root} cannot be read: {one_line(error)}") from error
        return found.text()


@dataclass(frozen=True)
class Folder(Dataset):
    """A folder of pictures (png, jpg, webp, ...): `image`, and `label` or `caption` if it has any.

    - A folder of pictures has no labels.
    - In a folder of subfolders, each subfolder is a class, with pictures at any depth. Labels follow the sorted names.
    - A folder with a file of captions has a caption for every picture, at any depth. Each line of the file is a JSON
      object, `{"file": "a.png", "caption": "a cat"}`; "file_name" and "text" are understood too. A picture may have
      several lines, and is then several examples.

    Pictures come class by class, sorted by path, or in the order of their captions. Names that begin with a dot and
    files with other suffixes are ignored. Symbolic links are followed, but not into a folder that holds the link. The
    set is greyscale if all pictures are; otherwise all pictures become RGB. JPEG and WebP pictures are turned by their
    EXIF orientation. Opening a folder reads only the headers; pictures are decoded when they are read.

    Attributes:
      path: the folder.
      size: side in pixels of the squares that pictures become. None keeps pictures as they are, which must then have
        one size.
      fit: how a picture becomes a square: "crop" takes the centred square, "pad" adds white borders on both sides.
      captions: the name of the file of captions in the folder.
    """

    path: str
    size: int | None = None
    fit: Fit = "crop"
    captions: str = "captions.jsonl"

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", os.fspath(self.path))
        check_size(self.size, self.fit)

    def open(self) -> Examples:
        """Opens the folder.

        Raises:
          ValueError: no such folder, no pictures, pictures both beside and inside subfolders, a class or a picture that
            the rules leave over, a file that cannot be read, or pictures of different sizes without `size`. A picture
            with broken pixel data is found and named when it is decoded.
        """
        root = expand_user("path", self.path)
        require(root.is_dir(), "path", self.path, "folders")
        captions = root / self.captions
        texts, labels, classes = list[str](), list[int](), tuple[str, ...]()
        if captions.is_file():
            names, texts = _captioned(root, captions)
        else:
            names, labels, classes = _classified(root, self.path)
        shape = _shape([root / name for name in names], self.size)
        fields = {"image": Field("picture", shape, "uint8")}
        if labels:
            fields["label"] = Field("label", (), "int32", len(classes), classes)
        if texts:
            fields["caption"] = Field("text", (), "str")
        source = FolderSource(root, tuple(names), tuple(labels), tuple(texts), shape, self.size, self.fit)
        return Examples(source, fields)


def _classified(root: Path, path: str) -> tuple[list[str], list[int], tuple[str, ...]]:
    """The pictures of a folder without captions, their labels, and the names of the classes."""
    flat = sorted(entry.name for entry in root.iterdir() if _is_picture(entry))
    folders = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    classes = {name: sorted(_pictures(root / name, name, (root,))) for name in folders}
    if flat and any(classes.values()):
        beside = f"pictures ({flat[0]}) and subfolders of pictures"
        raise ValueError(f"path = {path!r} holds {beside}; allowed is one of the two")
    if not flat and not any(classes.values()):
        raise ValueError(f"path = {path!r} holds no pictures; allowed are folders of {', '.join(sorted(SUFFIXES))}")
    if flat:
        return flat, [], ()
    empty = [name for name, found in classes.items() if not found]
    if empty:
        raise ValueError(f"path = {path!r}: subfolder {empty[0]!r} holds no pictures; fill or remove it")
    names = [name for found in classes.values() for name in found]
    return names, [label for label, found in enumerate(classes.values()) for _ in found], tuple(classes)


def _captioned(root: Path, captions: Path) -> tuple[list[str], list[str]]:
    """The pictures that a file of captions names, and their captions."""
    there = sorted(_pictures(root, "", ()))
    known, names, texts = set(there), list[str](), list[str]()
    try:
        lines = captions.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{captions} cannot be read: {one_line(error)}") from error
    for number, line in enumerate(lines, 1):
        if line.strip():
            name, text = _caption(f"{captions}, line {number}", line)
            if name not in known:
                raise ValueError(message(f"{captions}, line {number}: file", name, "names of pictures in the folder"))
            names.append(name)
            texts.append(text)
    if left := known - set(names):
        raise ValueError(f"{captions} has no caption of {min(left)!r}; write one or remove the picture")
    require(names, f"lines of {captions}", 0, "one line or more")
    return names, texts


def _caption(where: str, line: str) -> tuple[str, str]:
    allowed = 'objects {"file": "a.png", "caption": "a cat"}'
    try:
        tree = parse_json(line)
    except ValueError:
        tree = None
    require(isinstance(tree, dict), where, line, allowed)
    name, text = tree.get("file", tree.get("file_name")), tree.get("caption", tree.get("text"))
    require(isinstance(name, str) and isinstance(text, str), where, line, allowed)
    return Path(name).as_posix(), text


def _is_picture(path: Path) -> bool:
    # A broken link counts: it is named as a file that cannot be read.
    named = path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    return named and (path.is_file() or (path.is_symlink() and not path.exists()))


def _pictures(folder: Path, prefix: str, above: Sequence[Path]) -> Iterator[str]:
    """The paths of the pictures in a folder at any depth, below `prefix`. A link to a folder above it is left out."""
    own = folder.resolve()
    if own in [path.resolve() for path in above]:
        return
    for entry in folder.iterdir():
        name = f"{prefix}/{entry.name}" if prefix else entry.name
        if _is_picture(entry):
            yield name
        elif not entry.name.startswith(".") and entry.is_dir():
            yield from _pictures(entry, name, (*above, folder))


def _shape(paths: Sequence[Path], size: int | None) -> tuple[int, int, int]:
    """The shape of all pictures, from their headers."""
    with ThreadPoolExecutor(min(16, 2 * (os.cpu_count() or 1))) as pool:
        headers = list(pool.map(read_header, paths))
    channels = 1 if all(grey for _, grey in headers) else 3
    (width, height), _ = headers[0]
    if size is not None:
        return size, size, channels
    for path, (found, _) in zip(paths, headers, strict=True):
        if found != (width, height):
            raise ValueError(
                f"size = None; allowed are positive integers: {paths[0]} has {width}x{height} pixels and {path} has "
                f"{found[0]}x{found[1]}"
            )
    return height, width, channels
