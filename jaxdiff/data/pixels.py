"""Pixels: the one pair of functions between bytes and [-1, 1], and pictures turned into arrays."""

from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image


def to_unit(pixels: UInt8[np.ndarray, "*shape"]) -> Float32[np.ndarray, "*shape"]:
    """Maps bytes 0..255 to `pixels / 127.5 - 1`, in [-1, 1].

    Raises:
      TypeError: `pixels` is not of type uint8.
    """
    pixels = np.asarray(pixels)
    if pixels.dtype != np.uint8:
        raise TypeError(f"pixels has dtype {pixels.dtype}; allowed is uint8")
    return pixels / np.float32(127.5) - np.float32(1)


def to_uint8(values: Any) -> UInt8[np.ndarray, "*shape"]:
    """Maps [-1, 1] to bytes, rounded to the nearest and clipped: the inverse of `to_unit`.

    Args:
      values: floating-point array of any shape, NumPy's or JAX's.

    Raises:
      TypeError: `values` is not floating-point (bytes handed in by mistake would come out as noise).
      ValueError: `values` holds NaN, for which there is no byte.
    """
    values = np.asarray(values)
    # bfloat16 and its kin are no subtypes of np.floating, so ask what they are not.
    if values.dtype.kind in "biucSUO":
        raise TypeError(f"values has dtype {values.dtype}; allowed are floating-point types")
    scaled = np.rint((values.astype(np.float32) + 1) * 127.5)
    if np.isnan(scaled).any():
        raise ValueError("values holds NaN; allowed are numbers")
    return np.clip(scaled, 0, 255).astype(np.uint8)


def picture_to_array(
    picture: Image.Image, channels: int, size: int | None = None
) -> UInt8[np.ndarray, "height width channels"]:
    """Turns a PIL picture into bytes `[height, width, channels]`.

    Transparent pixels are laid on white, and 16-bit greyscale is scaled to 8 bits.

    Args:
      picture: any picture of 1, 8 or 16 bits per channel.
      channels: 1 (greyscale) or 3 (RGB).
      size: side in pixels; the centred square is cut out and resampled (Lanczos). None keeps the picture's own size.

    Raises:
      ValueError: the picture's pixels are 32-bit numbers, of which no range is known.
    """
    if picture.mode.startswith("I;16"):
        # PIL's own conversion clips at 255, which turns nearly every 16-bit picture white.
        picture = Image.fromarray(np.rint(np.asarray(picture, np.float32) / 257).astype(np.uint8))
    elif picture.mode in ("I", "F"):
        raise ValueError(f"picture has mode {picture.mode!r} (32 bits per pixel); allowed are 8 and 16 bits")
    elif picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    picture = picture.convert("L" if channels == 1 else "RGB")
    if size is not None and picture.size != (size, size):
        width, height = picture.size
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        # Cut first: resize(box=...) lets what lies outside the box bleed in.
        picture = picture.crop((left, top, left + side, top + side))
        picture = picture.resize((size, size), Image.Resampling.LANCZOS, reducing_gap=3.0)
    return np.asarray(picture).reshape(picture.height, picture.width, channels)


def check_size(size: int | None) -> None:
    """Raises ValueError unless `size` is None or a positive integer."""
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
        raise ValueError(f"size = {size!r} is not allowed; allowed are positive integers and None")
