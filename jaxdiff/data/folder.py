"""A folder of pictures as a data set."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from jaxdiff.data.pixels import check_size, picture_to_array
from jaxdiff.data.sources import Examples

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
GREY_MODES = frozenset({"1", "L", "LA"})
EXIF_ORIENTATION = 0x0112
# PIL turns TIFF by itself, and looks for a PNG's tags behind its pixels, which it would have to decode.
TURNED_FORMATS = frozenset({"JPEG", "MPO", "WEBP"})


@dataclass(frozen=True, eq=False)
class FolderSource:
    """Pictures decoded as they are asked for; `labels` is empty when there are none."""

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
            raise ValueError(f"{path} cannot be read as a picture: {error}") from error
        return {"image": pixels, "label": self.labels[index]} if self.labels else {"image": pixels}


def open_folder(path: str | os.PathLike[str], size: int | None = None) -> Examples:
    """Opens a folder of pictures (png, jpg, webp, ...).

    Either the folder holds pictures, and they are unlabelled; or it holds one subfolder per class (pictures at any
    depth below it), and labels follow the sorted names of the subfolders. Pictures come class by class, sorted by path.
    Names that begin with a dot, and files that are no pictures by their suffix, are passed over. All are greyscale if
    every one of them is, else all become RGB. JPEG and WebP pictures are turned as their EXIF tag says. Only headers
    are read here; pictures are decoded when asked for.

    Args:
      path: the folder.
      size: side in pixels of the square each picture is cut and resampled to. None takes them as they are, which needs
        all of them to have one size.

    Raises:
      ValueError: no such folder, no pictures, pictures both beside and inside subfolders, a class without pictures, a
        file that cannot be read (named; broken pixel data is found and named when the picture is decoded), or
        pictures of different sizes and no `size`.
    """
    check_size(size)
    root = Path(path).expanduser()
    if not root.is_dir():
        raise ValueError(f"path = {str(path)!r} is not a folder")
    flat = sorted(p for p in root.iterdir() if _is_picture(p))
    folders = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    classes = {folder.name: _pictures_below(folder) for folder in folders}
    if flat and any(classes.values()):
        raise ValueError(
            f"path = {str(path)!r} holds pictures ({flat[0].name}) and subfolders of pictures; allowed is either"
        )
    if not flat and not any(classes.values()):
        raise ValueError(f"path = {str(path)!r} holds no pictures; looked for {', '.join(sorted(SUFFIXES))}")
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
                    f"size = None needs pictures of one size, but {paths[0]} has {width}x{height} pixels and {p} has "
                    f"{found[0]}x{found[1]}; give size, the side of the squares they are to become"
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
    """The picture's (width, height) as it is to be seen, and whether it is greyscale."""
    try:
        with Image.open(path) as picture:
            width, height = picture.size
            if picture.format in TURNED_FORMATS and picture.getexif().get(EXIF_ORIENTATION, 1) >= 5:
                width, height = height, width
            return (width, height), picture.mode in GREY_MODES or picture.mode.startswith("I;16")
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as a picture: {error}") from error
