"""Pixels: conversions between bytes and [-1, 1], and from PIL pictures to arrays."""

from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from jaxdiff.checks import integer, message, require


def to_unit(pixels: UInt8[np.ndarray, "*shape"]) -> Float32[np.ndarray, "*shape"]:
    """Maps bytes 0..255 to `pixels / 127.5 - 1`, in [-1, 1].

    Raises:
      TypeError: `pixels` is not of type uint8.
    """
    pixels = np.asarray(pixels)
    require(pixels.dtype == np.uint8, "pixels.dtype", pixels.dtype, "uint8", TypeError)
    return pixels / np.float32(127.5) - np.float32(1)


def to_uint8(values: Any) -> UInt8[np.ndarray, "*shape"]:
    """Maps [-1, 1] to bytes, rounded to the nearest byte and clipped: the inverse of `to_unit`.

    Args:
      values: floating-point array of NumPy or JAX, of any shape.

    Raises:
      TypeError: `values` is not floating-point. Bytes passed by mistake would come out as noise.
      ValueError: `values` holds NaN.
    """
    values = np.asarray(values)
    # bfloat16 and the float8 types are not subtypes of np.floating, so this line lists all other kinds.
    require(values.dtype.kind not in "biucSUO", "values.dtype", values.dtype, "floating-point types", TypeError)
    scaled = np.rint((values.astype(np.float32) + 1) * 127.5)
    require(not np.isnan(scaled).any(), "values", np.nan, "numbers")
    return np.clip(scaled, 0, 255).astype(np.uint8)


def picture_to_array(
    picture: Image.Image, channels: int, size: int | None = None
) -> UInt8[np.ndarray, "height width channels"]:
    """Converts a PIL picture to bytes `[height, width, channels]`.

    Transparent pixels are laid on white, and 16-bit greyscale is scaled to 8 bits.

    Args:
      picture: any picture of 1, 8 or 16 bits per channel.
      channels: 1 (greyscale) or 3 (RGB).
      size: side in pixels. The centred square is cropped and resampled (Lanczos). None keeps the size of the picture.

    Raises:
      ValueError: the pixels are 32-bit numbers, whose range is unknown.
    """
    if picture.mode.startswith("I;16"):
        # PIL's conversion clips at 255, which would turn nearly every 16-bit picture white.
        picture = Image.fromarray(np.rint(np.asarray(picture, np.float32) / 257).astype(np.uint8))
    elif picture.mode in ("I", "F"):
        raise ValueError(message("picture.mode", picture.mode, "modes of at most 16 bits per channel"))
    elif picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    picture = picture.convert("L" if channels == 1 else "RGB")
    if size is not None and picture.size != (size, size):
        width, height = picture.size
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        # Crop first: resize(box=...) lets pixels outside the box bleed in.
        picture = picture.crop((left, top, left + side, top + side))
        picture = picture.resize((size, size), Image.Resampling.LANCZOS, reducing_gap=3.0)
    return np.asarray(picture).reshape(picture.height, picture.width, channels)


def check_size(size: int | None) -> None:
    """Raises a ValueError unless `size` is None or a positive integer."""
    if size is not None:
        integer("size", size)
