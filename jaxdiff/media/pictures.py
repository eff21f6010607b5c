"""Pictures of samples: tiny images side by side, clouds of points, PNG files."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont

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
    labels: Sequence[str] | None = None,
    row_labels: Sequence[str] | None = None,
    scale: int | None = None,
) -> NDArray[np.uint8]:
    """Examples side by side, row by row, as one picture.

    Args:
        images: `[n, height, width, channels]` in [-1, 1], clipped; 1 (grey), 3 (RGB) or 4 channels (RGBA, laid on
            white). NaN is drawn black.
        columns: images in a row.
        labels: a caption over each image, n of them.
        row_labels: a caption left of each row, ceil(n / columns) of them.
        scale: how many pixels a side one pixel becomes (nearest neighbour); None enlarges images under 32 pixels.

    Returns:
        `[H, W, 3]` uint8. Without captions image (row r, column c) begins at pixel
        `(GAP + r (scale height + GAP), GAP + c (scale width + GAP))`; what is not image is white.

    Raises:
        ValueError: a shape, `columns`, `scale` or the number of captions is not as said above.
    """
    pixels = np.asarray(images, np.float32)
    if pixels.ndim != 4 or pixels.shape[-1] not in (1, 3, 4) or 0 in pixels.shape:
        raise ValueError(f"images: shape {pixels.shape}, must be [n, height, width, channels] with 1, 3 or 4 channels")
    if columns < 1:
        raise ValueError(f"columns={columns}: must be at least 1")
    count, height, width, _ = pixels.shape
    rows = -(-count // columns)
    if scale is None:
        scale = max(1, -(-32 // max(height, width)))
    if scale < 1:
        raise ValueError(f"scale={scale}: must be at least 1")
    if labels is not None and len(labels) != count:
        raise ValueError(f"labels: {len(labels)} captions for {count} images")
    if row_labels is not None and len(row_labels) != rows:
        raise ValueError(f"row_labels: {len(row_labels)} captions for {rows} rows")

    cells = _to_rgb(pixels).repeat(scale, axis=1).repeat(scale, axis=2)
    font = ImageFont.load_default()
    above = 0 if labels is None else max(_text_size(font, text)[1] for text in labels) + GAP
    left = 0 if row_labels is None else max(_text_size(font, text)[0] for text in row_labels) + GAP
    step_y, step_x = cells.shape[1] + above + GAP, cells.shape[2] + GAP
    sheet = Image.new("RGB", (left + GAP + min(columns, count) * step_x, GAP + rows * step_y), (_PAPER,) * 3)
    draw = ImageDraw.Draw(sheet)
    for index, cell in enumerate(cells):
        row, column = divmod(index, columns)
        x, y = left + GAP + column * step_x, GAP + row * step_y
        if labels is not None:
            draw.text((x, y), labels[index], fill=_TEXT, font=font)
        sheet.paste(Image.fromarray(cell), (x, y + above))
    for row, text in enumerate(row_labels or ()):
        middle = GAP + row * step_y + above + cells.shape[1] // 2
        draw.text((GAP, middle), text, fill=_TEXT, font=font, anchor="lm")
    return np.asarray(sheet)


def scatter(
    points: ArrayLike, extent: float | None = None, labels: ArrayLike | None = None, size: int = 384
) -> NDArray[np.uint8]:
    """Points of the plane as a scatter picture, darker where they lie on each other; x runs right, y runs up.

    Args:
        points: `[n, 2]`.
        extent: the picture shows [-extent, extent] squared; None takes the largest finite coordinate.
        labels: `[n]` integers that choose the colour; None draws all points in one.
        size: pixels a side.

    Returns:
        `[size, size, 3]` uint8. Points outside the picture or not finite are left out.

    Raises:
        ValueError: `points` or `labels` has another shape, `extent` is not positive, or `size` is under 2.
    """
    xy = np.asarray(points, np.float64)
    if xy.ndim != 2 or xy.shape[1] != 2:
        raise ValueError(f"points: shape {xy.shape}, must be [n, 2]")
    kinds = np.zeros(len(xy), int) if labels is None else np.asarray(labels)
    if kinds.shape != (len(xy),):
        raise ValueError(f"labels: shape {kinds.shape}, must be [{len(xy)}]")
    if extent is not None and not extent > 0:
        raise ValueError(f"extent={extent}: must be positive")
    if size < 2:
        raise ValueError(f"size={size}: must be at least 2")
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
    """Writes a PNG file, whole or not at all.

    Args:
        path: the file; one that is there is replaced.
        image: `[height, width, channels]` uint8, 1, 3 or 4 channels.

    Raises:
        ValueError: `image` has another shape or type.
        OSError: the file cannot be written; an old one is unharmed.
    """
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[-1] not in (1, 3, 4):
        raise ValueError(
            f"image: {pixels.dtype} of shape {pixels.shape}, must be uint8 [height, width, channels] "
            "with 1, 3 or 4 channels"
        )
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
