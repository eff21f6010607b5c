"""Videos: an animated PNG of videos side by side, and a contact sheet of their frames."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from jaxdiff.checks import integer, not_negative, require
from jaxdiff.media.pictures import columns_for, grid

RATE = 8
"""Frames per second where the rate is not known."""
_ALLOWED = "[n, frames, height, width, channels] with 1, 3 or 4 channels"


def animation(
    videos: ArrayLike,
    columns: int | None = None,
    captions: Sequence[str] | None = None,
    rate: float = 0,
    scale: int | None = None,
) -> bytes:
    """An animated PNG file of videos that play side by side, again and again.

    Each of its frames is `pictures.grid` of the videos' frames. Frames in a row that are alike become one longer frame.

    Args:
      videos: `[n, frames, height, width, channels]`: bytes, or numbers in [-1, 1].
      columns: videos in a row; None for a sheet that is about square.
      captions: n captions.
      rate: frames per second, 0 if it is not known (8). The file counts in milliseconds.
      scale: as of `pictures.grid`.

    Raises:
      ValueError: `videos` has another shape, or an argument is wrong as in `pictures.grid`.
    """
    clips = _clips(videos)
    not_negative("rate", rate)
    columns = columns_for(len(clips), *clips.shape[2:4]) if columns is None else columns
    pictures = [Image.fromarray(grid(clips[:, t], columns, captions, scale=scale)) for t in range(clips.shape[1])]
    # The file stores the milliseconds in 16 bits.
    duration = min(max(1, round(1000 / (rate or RATE))), 65535)
    buffer = io.BytesIO()
    pictures[0].save(buffer, format="PNG", save_all=True, append_images=pictures[1:], duration=duration, loop=0)
    return buffer.getvalue()


def contact_sheet(
    videos: ArrayLike, captions: Sequence[str] | None = None, frames: int = 8, scale: int | None = None
) -> UInt8[np.ndarray, "height width 3"]:
    """A picture with one row for each video: frames at even distances, from the first to the last.

    Args:
      videos: `[n, frames, height, width, channels]`: bytes, or numbers in [-1, 1].
      captions: n captions, one to the left of each row. The numbers of the frames are above the first row.
      frames: the largest number of frames in a row.
      scale: as of `pictures.grid`.

    Raises:
      ValueError: `videos` has another shape, `frames` is below 1, or an argument is wrong as in `pictures.grid`.
    """
    clips = _clips(videos)
    integer("frames", frames)
    count, total = clips.shape[:2]
    chosen = np.rint(np.linspace(0, total - 1, min(frames, total))).astype(int)
    images = clips[:, chosen].reshape(-1, *clips.shape[2:])
    numbers = [str(number) for number in chosen] + [""] * ((count - 1) * len(chosen))
    return grid(images, len(chosen), numbers, captions, scale)


def _clips(videos: ArrayLike) -> NDArray[np.generic]:
    clips = np.asarray(videos)
    good = clips.ndim == 5 and clips.shape[-1] in (1, 3, 4) and 0 not in clips.shape
    require(good, "videos.shape", clips.shape, _ALLOWED)
    return clips
