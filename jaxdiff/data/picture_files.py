"""Picture files: headers and pixels, with errors of one line whatever the decoder raises."""

import io
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from jaxdiff.checks import one_line
from jaxdiff.data.pixels import Fit, picture_to_array

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
# The formats of these suffixes. Of other formats PIL hands some to programs: PostScript, which is a language, to
# Ghostscript, whatever the suffix of the file is.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
GREY_MODES = frozenset({"1", "L", "LA"})
EXIF_ORIENTATION = 0x0112
LYING = (5, 6, 7, 8)  # the orientations that exchange width and height
# PIL turns TIFF by itself. It finds the tags of a PNG only after its pixels, which it would have to decode first.
TURNED_FORMATS = frozenset({"JPEG", "MPO", "WEBP"})


def read_header(path: Path) -> tuple[tuple[int, int], bool]:
    """The (width, height) of the upright picture in a file, and whether it is greyscale.

    Raises:
      ValueError: the file is no picture. The error is one line, and names the file.
    """
    try:
        with Image.open(path, formats=FORMATS) as picture:
            width, height = picture.size
            if picture.format in TURNED_FORMATS and picture.getexif().get(EXIF_ORIENTATION) in LYING:
                width, height = height, width
            return (width, height), picture.mode in GREY_MODES or picture.mode.startswith("I;16")
    except Exception as error:  # decoders raise many types: DecompressionBombError, SyntaxError, struct.error, ...
        raise ValueError(f"{path} cannot be read as a picture: {one_line(error)}") from error


def read_picture(
    path: Path, channels: int, size: int | None = None, fit: Fit = "crop"
) -> UInt8[np.ndarray, "height width channels"]:
    """The pixels of a file, turned by its EXIF orientation. The arguments are those of `picture_to_array`.

    Raises:
      ValueError: the file is no picture, or a broken one. The error is one line, and names the file.
    """
    try:
        with Image.open(path, formats=FORMATS) as picture:
            upright = ImageOps.exif_transpose(picture) if picture.format in TURNED_FORMATS else picture
            return picture_to_array(upright, channels, size, fit)
    except Exception as error:
        raise ValueError(f"{path} cannot be read as a picture: {one_line(error)}") from error


def read_alpha(path: Path) -> UInt8[np.ndarray, "height width"] | None:
    """How opaque the pixels of a file are, turned by its EXIF orientation; None for a picture without transparency.

    Raises:
      ValueError: the file is no picture, or a broken one. The error is one line, and names the file.
    """
    try:
        with Image.open(path, formats=FORMATS) as picture:
            if not picture.has_transparency_data:
                return None
            upright = ImageOps.exif_transpose(picture) if picture.format in TURNED_FORMATS else picture
            return np.asarray(upright.convert("RGBA").getchannel("A"))
    except Exception as error:
        raise ValueError(f"{path} cannot be read as a picture: {one_line(error)}") from error


def decode_picture(
    data: bytes, channels: int, size: int | None = None, fit: Fit = "crop"
) -> UInt8[np.ndarray, "height width channels"]:
    """The pixels of the bytes of a file. The arguments are those of `picture_to_array`.

    Raises:
      ValueError: the bytes are no picture, or a broken one. The error is one line.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            return picture_to_array(picture, channels, size, fit)
    except Exception as error:
        raise ValueError(f"not a picture: {one_line(error)}") from error
