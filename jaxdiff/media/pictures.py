"""Pictures of samples: grids of images, scatter plots of points, PNG files."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont

from jaxdiff.checks import integer, positive, require
from jaxdiff.files import write_atomically

GAP = 2
_PAPER = 255
_TEXT = (0, 0, 0)
_COLOURS = (
    (31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40), (148, 103, 189),
    (140, 86, 75), (227, 119, 194), (127, 127, 127), (188, 189, 34), (23, 190, 207),
)  # fmt: skip


def grid(
    images: ArrayLike,
    columns: int,
    captions: Sequence[str] | None = None,
    row_captions: Sequence[str] | None = None,
    scale: int | None = None,
) -> NDArray[np.uint8]:
    """Arranges images in a grid, row by row, as one picture on white.

    Args:
      images: `[n, height, width, channels]` in [-1, 1]; other values are clipped. 1 channel (grey), 3 (RGB) or 4 (RGBA,
        laid on white). NaN is drawn black.
      columns: images in a row.
      captions: n captions, one above each image.
      row_captions: ceil(n / columns) captions, one to the left of each row.
      scale: the side, in pixels of the picture, of one image pixel (nearest neighbour). None enlarges images whose
        sides are below 32 pixels.

    Returns:
      `[H, W, 3]` uint8. Without captions, the image in row r and column c begins at the pixel

          (GAP + r (scale height + GAP), GAP + c (scale width + GAP))

    Raises:
      ValueError: `images` has another shape, `columns` or `scale` is below 1, or the number of captions is wrong.
    """
    pixels = np.asarray(images, np.float32)
    good = pixels.ndim == 4 and pixels.shape[-1] in (1, 3, 4) and 0 not in pixels.shape
    require(good, "images.shape", pixels.shape, "[n, height, width, channels] with 1, 3 or 4 channels")
    integer("columns", columns)
    count, height, width, _ = pixels.shape
    rows = -(-count // columns)
    if scale is None:
        scale = max(1, -(-32 // max(height, width)))
    integer("scale", scale)
    for name, texts, wanted in (("captions", captions, count), ("row_captions", row_captions, rows)):
        require(texts is None or len(texts) == wanted, f"len({name})", len(texts or ()), f"{wanted}, or None")

    cells = _to_rgb(pixels).repeat(scale, axis=1).repeat(scale, axis=2)
    font = ImageFont.load_default()
    above = 0 if captions is None else max(_text_size(font, text)[1] for text in captions) + GAP
    left = 0 if row_captions is None else max(_text_size(font, text)[0] for text in row_captions) + GAP
    step_y, step_x = cells.shape[1] + above + GAP, cells.shape[2] + GAP
    sheet = Image.new("RGB", (left + GAP + min(columns, count) * step_x, GAP + rows * step_y), (_PAPER,) * 3)
    draw = ImageDraw.Draw(sheet)
    for index, cell in enumerate(cells):
        row, column = divmod(index, columns)
        x, y = left + GAP + column * step_x, GAP + row * step_y
        if captions is not None:
            draw.text((x, y), captions[index], fill=_TEXT, font=font)
        sheet.paste(Image.fromarray(cell), (x, y + above))
    for row, text in enumerate(row_captions or ()):
        middle = GAP + row * step_y + above + cells.shape[1] // 2
        draw.text((GAP, middle), text, fill=_TEXT, font=font, anchor="lm")
    return np.asarray(sheet)


def scatter(
    points: ArrayLike, extent: float | None = None, labels: ArrayLike | None = None, size: int = 384
) -> NDArray[np.uint8]:
    """A scatter plot of points in the plane. x runs right and y runs up; overlapping points are darker.

    Args:
      points: `[n, 2]`.
      extent: the plot shows [-extent, extent] on both axes; None takes the largest finite coordinate.
      labels: `[n]` integers that choose the colours; None draws all points in one colour.
      size: side of the plot in pixels.

    Returns:
      `[size, size, 3]` uint8. Points outside the plot and points that are not finite are left out.

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
    sheet = Image.new("RGB", (size, size), (_PAPER,) * 3)
    draw = ImageDraw.Draw(sheet, "RGBA")
    shown = (np.abs(xy) <= reach).all(axis=1)
    places = (xy[shown] * (1.0, -1.0) / reach + 1.0) * (size - 1) / 2
    for (x, y), kind in zip(np.rint(places).astype(int).tolist(), kinds[shown].tolist(), strict=True):
        draw.rectangle((x - 1, y - 1, x + 1, y + 1), fill=(*_COLOURS[kind % len(_COLOURS)], 110))
    return np.asarray(sheet)


def write_png(path: str | os.PathLike[str], image: ArrayLike) -> None:
    """Writes a PNG file atomically.

    Args:
      path: the file. An old file is replaced.
      image: `[height, width, channels]` uint8, 1, 3 or 4 channels.

    Raises:
      TypeError: `image` is not uint8.
      ValueError: `image` has another shape.
      OSError: the file cannot be written. An old file is unchanged.
    """
    pixels = np.asarray(image)
    require(pixels.dtype == np.uint8, "image.dtype", pixels.dtype, "uint8", TypeError)
    good = pixels.ndim == 3 and pixels.shape[-1] in (1, 3, 4)
    require(good, "image.shape", pixels.shape, "[height, width, channels] with 1, 3 or 4 channels")
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(buffer, format="PNG")
    write_atomically(path, buffer.getvalue())


def _to_rgb(pixels: NDArray[np.float32]) -> NDArray[np.uint8]:
    unit = np.clip((np.nan_to_num(pixels, nan=-1.0) + 1.0) / 2.0, 0.0, 1.0)
    if unit.shape[-1] == 4:
        alpha = unit[..., 3:]
        unit = unit[..., :3] * alpha + (1.0 - alpha)
    rounded = np.rint(unit * 255.0).astype(np.uint8)
    return np.broadcast_to(rounded, (*rounded.shape[:-1], 3))


def _text_size(font: ImageFont.ImageFont | ImageFont.FreeTypeFont, text: str) -> tuple[int, int]:
    _, _, right, bottom = font.getbbox(text or " ")
    return int(np.ceil(right)), int(np.ceil(bottom))
