"""Pictures of examples: grids of images, scatter plots of points, PNG files."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw

from jaxdiff.checks import integer, positive, require
from jaxdiff.files import write_output
from jaxdiff.media.lettering import block, length, line_height, wrap
from jaxdiff.media.pixels import COLOURS, INK, PAPER, to_rgb

GAP = 2
"""Pixels between the images of a grid, and around them."""
_BEFORE_CAPTION = 6  # more than between a caption and its image, so that one sees to which image it belongs
_NARROWEST = 32
_BESIDE = 4  # between a caption and the caption to its right
_ROOMY = 96
_WIDEST_ROW_CAPTION = 144


def grid(
    images: ArrayLike,
    columns: int,
    captions: Sequence[str] | None = None,
    row_captions: Sequence[str] | None = None,
    scale: int | None = None,
) -> UInt8[np.ndarray, "height width 3"]:
    """Arranges images in a grid, row by row, as one picture on white.

    Args:
      images: `[n, height, width, channels]`: bytes, or numbers in [-1, 1] (other numbers are clipped). 1 channel
        (grey), 3 (RGB) or 4 (RGBA, laid on white). Pixels that are NaN or infinite are drawn in magenta.
      columns: images in a row.
      captions: n captions, one above each image, wrapped to the width of a cell and cut after three lines. A row whose
        captions are all empty has no space for them.
      row_captions: ceil(n / columns) captions, one to the left of each row, wrapped in the same way.
      scale: the side, in pixels of the picture, of one image pixel (nearest neighbour). None enlarges images whose
        sides are below 32 pixels; with a caption that is wider than its image, below 96 pixels.

    Returns:
      `[H, W, 3]`. Without captions, the image in row r and column c begins at the pixel

          (GAP + r (scale height + GAP), GAP + c (scale width + GAP))

    Raises:
      ValueError: `images` has another shape, `columns` or `scale` is below 1, or the number of captions is wrong.
      TypeError: `images` holds no real numbers.
    """
    pixels = np.asarray(images)
    good = pixels.ndim == 4 and pixels.shape[-1] in (1, 3, 4) and 0 not in pixels.shape
    require(good, "images.shape", pixels.shape, "[n, height, width, channels] with 1, 3 or 4 channels")
    integer("columns", columns)
    count, height, width, _ = pixels.shape
    rows = -(-count // columns)
    for name, texts, wanted in (("captions", captions, count), ("row_captions", row_captions, rows)):
        require(texts is None or len(texts) == wanted, f"len({name})", len(texts or ()), f"{wanted}, or None")
    if scale is None:
        scale = _scale(height, width, captions)
    integer("scale", scale)

    tall, wide = height * scale, width * scale
    # A caption needs room for a few letters, however narrow its image is.
    wide_cell = wide if captions is None else max(wide, _NARROWEST)
    above = [
        [wrap(text, wide_cell - _BESIDE) for text in (captions or ())[row * columns :][:columns]] for row in range(rows)
    ]
    heights = [max((len(lines) for lines in texts), default=0) * line_height() for texts in above]
    paddings = [_BEFORE_CAPTION * (row > 0) + high + GAP if high else 0 for row, high in enumerate(heights)]
    beside = [wrap(text, _WIDEST_ROW_CAPTION, max(1, tall // line_height())) for text in row_captions or ()]
    left = max((length(line) + 3 * GAP for lines in beside for line in lines), default=0)

    tops = [GAP + row * (tall + GAP) + sum(paddings[: row + 1]) for row in range(rows)]
    shape = (max(tops) + tall + GAP, left + GAP + min(columns, count) * (wide_cell + GAP), 3)
    sheet = np.full(shape, PAPER[0], np.uint8)
    for index, image in enumerate(pixels):
        row, column = divmod(index, columns)
        x = left + GAP + column * (wide_cell + GAP)
        if heights[row]:
            text = block(above[row][column], wide_cell)
            _paste(sheet, text, tops[row] - GAP - len(text), x)
        _paste(sheet, to_rgb(image).repeat(scale, axis=0).repeat(scale, axis=1), tops[row], x)
    for row, lines in enumerate(beside):
        text = block(lines, max(left - GAP, 0))
        _paste(sheet, text, max(0, tops[row] + (tall - len(text)) // 2), 2 * GAP)
    return sheet


def scatter(
    points: ArrayLike, extent: float | None = None, labels: ArrayLike | None = None, size: int = 384
) -> UInt8[np.ndarray, "size size 3"]:
    """A scatter plot of points in the plane. x runs right and y runs up; overlapping points are darker.

    Args:
      points: `[n, 2]`.
      extent: the plot shows [-extent, extent] on both axes; None takes the largest finite coordinate.
      labels: `[n]` integers that choose the colours; None draws all points in one colour.
      size: side of the plot in pixels.

    Returns:
      `[size, size, 3]`. Points outside the plot and points that are not finite are left out.

    Raises:
      ValueError: `points` or `labels` has another shape, `extent` is not positive, or `size` is below 2.
    """
    xy = np.asarray(points, np.float64)
    require(xy.ndim == 2 and xy.shape[1] == 2, "points.shape", xy.shape, "[n, 2]")
    kinds = np.zeros(len(xy), int) if labels is None else np.asarray(labels)
    require(kinds.shape == (len(xy),), "labels.shape", kinds.shape, f"({len(xy)},), one label for each point")
    if extent is not None:
        positive("extent", extent)
    integer("size", size, least=2)
    xy, kinds = xy[np.isfinite(xy).all(axis=1)], kinds[np.isfinite(xy).all(axis=1)]
    reach = extent or max(float(np.abs(xy).max(initial=0.0)), 1e-6)
    sheet = Image.new("RGB", (size, size), PAPER)
    draw = ImageDraw.Draw(sheet, "RGBA")
    shown = (np.abs(xy) <= reach).all(axis=1)
    places = (xy[shown] / reach * (1.0, -1.0) + 1.0) * (size - 1) / 2
    for (x, y), kind in zip(np.rint(places).astype(int).tolist(), kinds[shown].tolist(), strict=True):
        draw.rectangle((x - 1, y - 1, x + 1, y + 1), fill=(*COLOURS[kind % len(COLOURS)], 110))
    return np.asarray(sheet)


def legend(
    picture: UInt8[np.ndarray, "height width 3"],
    names: Sequence[str] = (),
    colours: Sequence[tuple[int, int, int]] = (),
    notes: Sequence[tuple[str, tuple[int, int, int]]] = (),
) -> UInt8[np.ndarray, "taller width 3"]:
    """A picture with lines below it: names of colours, then notes.

    Args:
      picture: `[height, width, 3]`.
      names: the names, each beside a square of its colour. A name that is wider than the picture is cut.
      colours: as many colours as names.
      notes: texts and their colours. A note has a line of its own, or up to three.

    Returns:
      The picture itself where there are neither names nor notes.
    """
    high, width = line_height(), picture.shape[1]
    margin = np.full((2 * GAP, width, 3), PAPER[0], np.uint8)
    strips = []
    x = width
    for name, colour in zip(names, colours, strict=True):
        text = "".join(wrap(name, max(1, width - 2 * high), 1))
        needs = 2 * high + length(text)
        if x + needs > width:
            strips.append(np.full((high, width, 3), PAPER[0], np.uint8))
            x = GAP
        strips[-1][2 : high - 2, x : x + high - 4] = INK
        strips[-1][3 : high - 3, x + 1 : x + high - 5] = colour
        _paste(strips[-1], block([text], max(1, length(text))), 0, x + high)
        x += needs
    for text, colour in notes:
        lines = wrap(text, max(1, width - 2 * GAP))
        strips.append(np.full((high * len(lines), width, 3), PAPER[0], np.uint8))
        _paste(strips[-1], block(lines, width, colour), 0, GAP)
    return np.concatenate([picture, margin, *strips, margin]) if strips else picture


def columns_for(count: int, height: int, width: int) -> int:
    """The number of columns with which a grid of `count` cells of this size is about square."""
    return min(count, max(1, math.ceil(math.sqrt(count * height / width))))


def png_bytes(image: ArrayLike) -> bytes:
    """The bytes of a PNG file.

    Args:
      image: `[height, width, channels]` uint8, 1, 3 or 4 channels.

    Raises:
      TypeError: `image` is not uint8.
      ValueError: `image` has another shape.
    """
    pixels = np.asarray(image)
    require(pixels.dtype == np.uint8, "image.dtype", pixels.dtype, "uint8", TypeError)
    good = pixels.ndim == 3 and pixels.shape[-1] in (1, 3, 4)
    require(good, "image.shape", pixels.shape, "[height, width, channels] with 1, 3 or 4 channels")
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def write_png(path: str | os.PathLike[str], image: ArrayLike) -> None:
    """Writes a PNG file atomically.

    Args:
      path: the file. An old file is replaced, a link is followed, and a device or a FIFO is written through.
      image: `[height, width, channels]` uint8, 1, 3 or 4 channels.

    Raises:
      TypeError: `image` is not uint8.
      ValueError: `image` has another shape.
      OSError: the file cannot be written. An old file is unchanged.
    """
    write_output(path, png_bytes(image))


def _scale(height: int, width: int, captions: Sequence[str] | None) -> int:
    """How much a grid enlarges its images by itself."""
    least = max(1, -(-_NARROWEST // max(height, width)))
    crowded = any(len(wrap(text, max(width * least, _NARROWEST) - _BESIDE, 2)) > 1 for text in captions or ())
    return max(1, -(-_ROOMY // max(height, width))) if crowded else least


def _paste(sheet: UInt8[np.ndarray, "H W 3"], picture: UInt8[np.ndarray, "h w 3"], y: int, x: int) -> None:
    """Lays a picture on a sheet, in place. Parts beyond the right and the lower edge are cut."""
    room = sheet[y : y + picture.shape[0], x : x + picture.shape[1]]
    room[:] = picture[: room.shape[0], : room.shape[1]]
