"""Pixels: conversions between bytes and [-1, 1], and from PIL pictures to arrays."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float32, UInt8
from PIL import Image

from jaxdiff.checks import integer, message, one_of, require

Fit = Literal["crop", "pad"]
"""How a picture becomes a square: "crop" takes the centred square, "pad" adds white borders on both sides."""


def to_floats(x: Any) -> Any:
    """Bytes as float32 in [-1, 1], `x / 127.5 - 1`; floating-point arrays unchanged.

    The bits of the result are the same for NumPy and JAX, compiled or not, on every device.

    Args:
      x: an array of NumPy or JAX, of any shape.

    Raises:
      TypeError: `x` is neither uint8 nor floating-point.
    """
    if x.dtype == np.uint8:
        return _to_unit(x) if isinstance(x, jax.Array) else to_unit(x)
    require(jnp.issubdtype(x.dtype, jnp.floating), "x.dtype", x.dtype, "uint8 and floating-point types", TypeError)
    return x


def to_unit(pixels: UInt8[np.ndarray, "*shape"]) -> Float32[np.ndarray, "*shape"]:
    """Maps bytes 0..255 to `pixels / 127.5 - 1`, in [-1, 1], with NumPy.

    Raises:
      TypeError: `pixels` is not of type uint8.
    """
    pixels = np.asarray(pixels)
    require(pixels.dtype == np.uint8, "pixels.dtype", pixels.dtype, "uint8", TypeError)
    return pixels / np.float32(127.5) - np.float32(1)


def _to_unit(pixels: UInt8[jax.Array, "*shape"]) -> Float32[jax.Array, "*shape"]:
    """`to_unit` in JAX, with the same bits on every device.

    A compiler may replace the division by 127.5 with a product by the rounded inverse, or divide less exactly than
    NumPy. This function therefore writes the result as an integer multiple of 2^-24:

        2^24 (p / 127.5 - 1) = 131586 p - 2^24 + p / 127.5

    Rounding to float32, which is coarser from p = 128 on, turns the last term into 0, 1 or 2.
    """
    p = pixels.astype(jnp.int32)
    number = 131586 * p - 2**24 + (p >= 64) + (p >= 128)
    return number.astype(jnp.float32) * jnp.float32(2.0**-24)


def reduced(x: Float[Any, "*batch h w c"], factor: int) -> Float[Any, "*batch h/factor w/factor c"]:
    """The means over squares of `factor` by `factor` pixels. `factor` divides both sides."""
    *batch, height, width, channels = x.shape
    return x.reshape(*batch, height // factor, factor, width // factor, factor, channels).mean((-4, -2))


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
    picture: Image.Image, channels: int, size: int | None = None, fit: Fit = "crop"
) -> UInt8[np.ndarray, "height width channels"]:
    """Converts a PIL picture to bytes `[height, width, channels]`.

    Transparent pixels are laid on white, and 16-bit greyscale is scaled to 8 bits.

    Args:
      picture: any picture of 1, 8 or 16 bits per channel.
      channels: 1 (greyscale) or 3 (RGB).
      size: side of the square result in pixels. None keeps the size of the picture.
      fit: how the picture becomes a square: "crop" takes its centred square, "pad" adds white borders on both sides.
        The square is then resampled (Lanczos).

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
        picture = _pad(picture, size) if fit == "pad" else _crop(picture, size)
    return np.asarray(picture).reshape(picture.height, picture.width, channels)


def check_size(size: int | None, fit: str = "crop") -> None:
    """Raises a ValueError unless `size` is None or a positive integer, and `fit` is "crop" or "pad"."""
    if size is not None:
        integer("size", size)
    one_of("fit", fit, ("crop", "pad"))


def _crop(picture: Image.Image, size: int) -> Image.Image:
    width, height = picture.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    # Crop first: resize(box=...) lets pixels outside the box bleed in.
    picture = picture.crop((left, top, left + side, top + side))
    return picture.resize((size, size), Image.Resampling.LANCZOS, reducing_gap=3.0)


def _pad(picture: Image.Image, size: int) -> Image.Image:
    width, height = picture.size
    longer = max(width, height)
    inner = tuple(max(1, round(side * size / longer)) for side in (width, height))
    # Pad last: resampling would blur the edge between the picture and its border.
    picture = picture.resize((inner[0], inner[1]), Image.Resampling.LANCZOS, reducing_gap=3.0)
    square = Image.new(picture.mode, (size, size), "white")
    square.paste(picture, ((size - inner[0]) // 2, (size - inner[1]) // 2))
    return square
