"""Data sets from folders of pictures."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from jaxdiff.checks import one_line
from jaxdiff.data.pixels import check_size, picture_to_array
from jaxdiff.data.sources import Examples

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
GREY_MODES = frozenset({"1", "L", "LA"})
EXIF_ORIENTATION = 0x0112
# PIL turns TIFF by itself. It finds the tags of a PNG only after its pixels, which it would have to decode first.
TURNED_FORMATS = frozenset({"JPEG", "MPO", "WEBP"})


@dataclass(frozen=True, eq=False)
class FolderSource:
    """Pictures that are decoded when they are read; `labels` is empty for an unlabelled folder."""

    paths: tuple[Path, ...]
    labels: tuple[int, ...]
    channels: int
    size: int | None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int, /) -> dict[str, Any]:
        path = self.paths[index]
        try:
            with Image.open(path) as picture:
                upright = ImageOps.exif_transpose(picture) if picture.format in TURNED_FORMATS else picture
                pixels = picture_to_array(upright, self.channels, self.size)
        except (OSError, SyntaxError, ValueError) as error:  # PIL raises SyntaxError for some broken PNG files
            raise ValueError(f"{path} cannot be read as a picture: {one_line(error)}") from error
        return {"image": pixels, "label": self.labels[index]} if self.labels else {"image": pixels}


def open_folder(path: str | os.PathLike[str], size: int | None = None) -> Examples:
    """Opens a folder of pictures (png, jpg, webp, ...).

    A folder that holds pictures is an unlabelled set. A folder of subfolders is a labelled set: each subfolder is a
    class, with pictures at any depth, and labels follow the sorted names of the subfolders. Pictures come class by
    class, sorted by path. Names that begin with a dot and files with other suffixes are ignored. The set is greyscale
    if all pictures are; otherwise all pictures become RGB. JPEG and WebP pictures are turned by their EXIF orientation.
    This function reads only the headers; pictures are decoded when they are read.

    Args:
      path: the folder.
      size: side in pixels of the squares that pictures are cropped and resampled to. None keeps pictures as they are,
        which must then have one size.

    Raises:
      ValueError: no such folder, no pictures, pictures both beside and inside subfolders, a class without pictures, a
        file that cannot be read, or pictures of different sizes without `size`. A picture with broken pixel data is
        found and named when it is decoded.
    """
    check_size(size)
    root = Path(path).expanduser()
    if not root.is_dir():
        raise ValueError(f"path = {str(path)!r} is not a folder")
    flat = sorted(p for p in root.iterdir() if _is_picture(p))
    folders = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    classes = {folder.name: _pictures_below(folder) for folder in folders}
    if flat and any(classes.values()):
        beside = f"pictures ({flat[0].name}) and subfolders of pictures"
        raise ValueError(f"path = {str(path)!r} holds {beside}; allowed is one of the two")
    if not flat and not any(classes.values()):
        raise ValueError(
            f"path = {str(path)!r} holds no pictures; allowed are folders of {', '.join(sorted(SUFFIXES))}"
        )
    paths, labels, class_names = flat, list[int](), tuple[str, ...]()
    if not flat:
        empty = [name for name, found in classes.items() if not found]
        if empty:
            raise ValueError(f"path = {str(path)!r}: subfolder {empty[0]!r} holds no pictures; fill or remove it")
        paths = [p for found in classes.values() for p in found]
        labels = [label for label, found in enumerate(classes.values()) for _ in found]
        class_names = tuple(classes)

    with ThreadPoolExecutor(min(16, 2 * (os.cpu_count() or 1))) as pool:
        headers = list(pool.map(_read_header, paths))
    channels = 1 if all(grey for _, grey in headers) else 3
    width, height = headers[0][0]
    if size is None:
        for p, (found, _) in zip(paths, headers, strict=True):
            if found != (width, height):
                raise ValueError(
                    f"size = None; allowed are positive integers: {paths[0]} has {width}x{height} pixels and {p} has "
                    f"{found[0]}x{found[1]}"
                )
    shape = (size or height, size or width, channels)
    return Examples(FolderSource(tuple(paths), tuple(labels), channels, size), shape, len(class_names), class_names)


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def _pictures_below(folder: Path) -> list[Path]:
    found: list[Path] = []
    for directory, subfolders, names in os.walk(folder):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        found += [p for name in names if _is_picture(p := Path(directory, name))]
    return sorted(found)


def _read_header(path: Path) -> tuple[tuple[int, int], bool]:
    """The (width, height) of the upright picture, and whether it is greyscale."""
    try:
        with Image.open(path) as picture:
            width, height = picture.size
            if picture.format in TURNED_FORMATS and picture.getexif().get(EXIF_ORIENTATION, 1) >= 5:
                width, height = height, width
            return (width, height), picture.mode in GREY_MODES or picture.mode.startswith("I;16")
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as a picture: {one_line(error)}") from error
