"""Pixels: values in [-1, 1] and bytes as colours, and the colours of kinds."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8
from numpy.typing import ArrayLike

from jaxdiff.checks import require

PAPER = (255, 255, 255)
INK = (0, 0, 0)
NOT_FINITE = (255, 0, 255)
"""The colour of NaN and of infinities. It is loud, and no colour of a kind is near it."""
COLOURS = (
    (31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40), (148, 103, 189),
    (140, 86, 75), (227, 119, 194), (127, 127, 127), (188, 189, 34), (23, 190, 207),
)  # fmt: skip
"""The colours of kinds 0, 1, ...; they repeat."""


def to_rgb(values: ArrayLike) -> UInt8[np.ndarray, "*any 3"]:
    """The colours of pixels.

    Args:
      values: `[..., channels]`: 1 channel (grey), 3 (RGB), or 4 (RGBA, laid on white). Bytes are taken as they are. Of
        booleans, False is black and True is white. Other numbers are brightnesses in [-1, 1] and are clipped to it.

    Returns:
      `[..., 3]`. A pixel with a channel that is NaN or infinite has the colour `NOT_FINITE`.

    Raises:
      TypeError: the values are no real numbers.
      ValueError: another number of channels.
    """
    array = np.asarray(values)
    require(array.dtype.kind in "buif", "values.dtype", array.dtype, "real numbers", TypeError)
    good = array.ndim > 0 and array.shape[-1] in (1, 3, 4)
    require(good, "values.shape", array.shape, "[..., channels] with 1, 3 or 4 channels")
    finite = np.ones((*array.shape[:-1], 1), bool)
    if array.dtype == np.uint8:
        unit = array.astype(np.float32) / np.float32(255)
    elif array.dtype == bool:
        unit = array.astype(np.float32)
    else:
        finite = np.isfinite(array).all(axis=-1, keepdims=True)
        # The values are clipped before they become float32, which cannot hold all of float64.
        unit = (np.clip(np.where(finite, array, 0), -1, 1).astype(np.float32) + 1) / 2
    if unit.shape[-1] == 4:
        alpha = unit[..., 3:]
        unit = unit[..., :3] * alpha + (1 - alpha)
    rounded = np.rint(unit * 255).astype(np.uint8)
    return np.where(finite, rounded, np.array(NOT_FINITE, np.uint8))


def colour_of(kind: int) -> tuple[int, int, int]:
    """The colour of a kind; a negative kind is unknown and has the colour `NOT_FINITE`."""
    return COLOURS[kind % len(COLOURS)] if kind >= 0 else NOT_FINITE
