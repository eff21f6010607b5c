"""Watermarks: an invisible mark in the pixels of pictures, which says that jaxdiff made them.

A mark stays in a picture whose metadata are stripped. blind-watermark makes the mark (DWT, DCT and SVD of blocks of 8
by 8 pixels, in three channels). The choice, as of November 2026, with the mark of 56 bits in sheets of digits, photos,
points, spectrograms and scatter plots:

- blind-watermark 0.4.4 (MIT; OpenCV and PyWavelets: 200 MB): no wrong bit in any PNG file of more than 100 pixels a
  side, and at most 12 in JPEG of quality 75. Its newest release is of 2023, and it runs on NumPy 2.5, OpenCV 5 and
  Python 3.13.
- invisible-watermark 0.2.0 (MIT, 2023): needs PyTorch, refuses pictures below 256 by 256 pixels, and lost 26 of 56 bits
  in the PNG file of a scatter plot.
- trustmark 0.9.2 (MIT, 2026): is trained against distortions, but needs PyTorch and Lightning, and fetches its weights
  when it runs.
- Others on PyPI are experiments of one author, or have another licence (Stegano: GPL).
"""

from __future__ import annotations

import importlib
import io
import multiprocessing
import os
import warnings
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageSequence

from jaxdiff.checks import require
from jaxdiff.extras import needed
from jaxdiff.media.metadata import is_png
from jaxdiff.media.pictures import png_bytes

MARK = b"jaxdiff"
"""The text of the mark."""
_BITS = np.unpackbits(np.frombuffer(MARK, np.uint8)).astype(bool)
# Steps in which the largest singular value of a block is quantised. The package's own 36, with further steps of 20 for
# the second value, leaves visible blocks on plain backgrounds (a PSNR of 37 dB instead of 42 dB).
_STEP = 24
# A random picture has as few wrong bits with the probability 6e-7.
_WRONG = 10
# Each bit is in as many blocks at least. With fewer, PNG files have wrong bits.
_REPEATS = 4


def import_library() -> Any:
    """The package blind-watermark.

    Raises:
      ImportError: the package is not installed, or OpenCV, which it needs, cannot be imported.
    """
    # When it is imported, the package makes `fork` the start method of all processes, which is unsafe beside JAX's
    # threads, and fails where a method has been chosen.
    method = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method(None, force=True)
    try:
        with needed("a watermark"):
            library = importlib.import_module("blind_watermark")
    finally:
        multiprocessing.set_start_method(method, force=True)
    library.bw_notes.close()  # the package's greeting
    return library


def check(files: Mapping[str, bytes]) -> None:
    """Checks that files can be marked.

    Args:
      files: the contents by name, as `show` returns them.

    Raises:
      ValueError: there is no PNG picture among them, or one is too small.
    """
    pictures = [contents for contents in files.values() if is_png(contents)]
    require(pictures, "watermark", True, "False for samples that are not shown as pictures")
    for contents in pictures:
        with Image.open(io.BytesIO(contents)) as picture:
            blocks = _blocks(picture.height, picture.width)
            least = _REPEATS * _BITS.size
            allowed = f"sizes of at least {least} blocks of 8 by 8 pixels, such as (120, 120), for a watermark"
            require(blocks >= least, "size of the picture", picture.size, allowed)


def marked(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Files whose PNG pictures bear the mark, in each frame if they are animated. Other files are left as they are.

    The mark survives PNG, and JPEG of quality 75 in pictures of about 140 pixels a side and more. It survives neither
    scaling nor cropping.

    Args:
      files: the contents by name, as `show` returns them.

    Raises:
      ImportError: as of `import_library`.
    """
    return {name: _marked(contents) if is_png(contents) else contents for name, contents in files.items()}


def is_marked(file: str | os.PathLike[str] | BinaryIO) -> bool:
    """Whether a picture bears the mark: its first frame if it is animated.

    Args:
      file: a path, or an open file, of the formats PNG, JPEG and WebP.

    Raises:
      ImportError: as of `import_library`.
      OSError: the file cannot be read as a picture.
    """
    with Image.open(file, formats=("PNG", "JPEG", "WEBP")) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    if _blocks(*pixels.shape[:2]) <= _BITS.size:
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of plain pictures, in which all bits are alike
        found = _worker().extract(embed_img=_to_bgr(pixels), wm_shape=_BITS.size, mode="bit")
    return int(np.count_nonzero(np.asarray(found).astype(bool) != _BITS)) <= _WRONG


def _marked(png: bytes) -> bytes:
    with Image.open(io.BytesIO(png)) as picture:
        shown = [
            (_embed(np.asarray(frame.convert("RGB"))), frame.info.get("duration"))
            for frame in ImageSequence.Iterator(picture)
        ]
    if len(shown) == 1:
        return png_bytes(shown[0][0])
    first, *others = [Image.fromarray(pixels) for pixels, _ in shown]
    durations = [duration for _, duration in shown]
    buffer = io.BytesIO()
    first.save(buffer, format="PNG", save_all=True, append_images=others, duration=durations, loop=0)
    return buffer.getvalue()


def _embed(pixels: UInt8[np.ndarray, "height width 3"]) -> UInt8[np.ndarray, "height width 3"]:
    worker = _worker()
    worker.read_img(img=_to_bgr(pixels))
    worker.read_wm(_BITS.copy(), mode="bit")  # which the package shuffles in place
    return np.rint(worker.embed()).astype(np.uint8)[..., ::-1]


def _worker() -> Any:
    worker = import_library().WaterMark()
    worker.bwm_core.d1, worker.bwm_core.fast_mode = _STEP, True
    return worker


def _to_bgr(pixels: UInt8[np.ndarray, "height width 3"]) -> UInt8[np.ndarray, "height width 3"]:
    return np.ascontiguousarray(pixels[..., ::-1])


def _blocks(height: int, width: int) -> int:
    """The number of blocks that hold a bit each."""
    return (height + 1) // 8 * ((width + 1) // 8)
