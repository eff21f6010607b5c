"""Showing: files to look at or listen to, for examples of any kind."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jaxdiff.checks import require
from jaxdiff.files import write_atomically
from jaxdiff.media import pictures, points, videos, waveforms
from jaxdiff.media.pixels import COLOURS, NOT_FINITE

PICTURES, OTHERS, DOTS = 100, 16, 10000
"""The largest numbers of examples that are shown: of pictures, of videos and waveforms and point sets, of values."""
_SHEET = 2**24
_VIDEO = 2**26


class _Shown(NamedTuple):
    """The arguments of `show`, checked."""

    values: NDArray[np.generic]
    names: tuple[str, ...]
    captions: tuple[str, ...]
    rate: float
    mask: NDArray[np.bool_] | None
    labels: NDArray[np.int64] | None
    features: NDArray[np.generic] | None
    stem: str

    def texts(self, count: int, numbered: bool = False) -> list[str] | None:
        """The captions of the first examples; None if all are empty."""
        texts = [*self.captions[:count], *[""] * (count - len(self.captions))]
        if not self.captions and self.labels is not None:
            texts = [_name(label, self.names) for label in self.labels[:count].tolist()]
        if numbered:
            texts = [f"{index:02d} {text}".rstrip() for index, text in enumerate(texts)]
        return texts if any(texts) else None


def show(
    values: ArrayLike,
    kind: str,
    *,
    names: Sequence[str] = (),
    captions: Sequence[str] = (),
    rate: float = 0,
    mask: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    features: ArrayLike | None = None,
    stem: str = "samples",
) -> dict[str, bytes]:
    """Files to look at or listen to, by name, for examples of one kind.

    - `picture`, `[n, height, width, channels]` with 1, 3 or 4 channels: a sheet `STEM.png`;
    - `video`, `[n, frames, height, width, channels]`: an animated `STEM.png`, and the frames side by side in
      `STEM_frames.png`;
    - `waveform`, `[n, time, channels]` with 1 to 8 channels: `STEM_00.wav`, `STEM_01.wav`, ..., and their spectrograms
      in `STEM.png`;
    - `points`, `[n, k, 3]`: a sheet `STEM.png`, `STEM_00.ply`, `STEM_01.ply`, ..., and if the features are chemical
      elements, all molecules in `STEM.xyz`;
    - `values`, `[n, 2]`: a scatter plot `STEM.png`;
    - all other kinds and shapes, and arrays without elements: `STEM.npy`, with all examples.

    Of more examples than fit, the first are shown: 100 pictures, 16 videos, waveforms or point sets, 10000 values, and
    fewer if they are large. Numbers that are NaN or infinite never raise: pixels and columns of spectrograms are
    magenta, sound is silent, points are counted in magenta.

    Args:
      values: an array of n examples. Pictures and videos are bytes (uint8) or numbers in [-1, 1]; waveforms are numbers
        in [-1, 1], int16 or uint8.
      kind: the kind of the examples, as of a field of data.
      names: the names of the columns of `features`, if there are features of that number; else of the classes.
      captions: a text for each example, in order; missing ones are empty. Without captions, an example that has a label
        has the name of its class.
      rate: samples per second of waveforms, frames per second of videos; 0 if it is not known.
      mask: `[n, rows]`, the rows of each example that exist: points, samples of time, or frames. Numbers above one half
        are true.
      labels: `[n]`, the classes of the examples. They colour values.
      features: `[n, k, f]`, one-hot kinds of points, or approximately so: the largest one counts.
      stem: the beginning of the files' names.

    Returns:
      The contents of the files, by name.

    Raises:
      ValueError: `mask`, `labels` or `features` does not belong to the values, `values` has no axis, or `rate` is
        negative. An array of numbers with at least one axis never raises.
    """
    array = _plain(values)
    require(array.ndim > 0, "values.shape", array.shape, "[n, ...]")
    count = len(array)
    for name, given, wanted in (
        ("labels", labels, (count,)),
        ("mask", mask, array.shape[:2]),
        ("features", features, (*array.shape[:2], "any")),
    ):
        shape = np.shape(given) if given is not None else wanted
        good = len(shape) == len(wanted) and all(a in (b, "any") for a, b in zip(wanted, shape, strict=True))
        require(good, f"{name}.shape", shape, f"({', '.join(map(str, wanted))}), or None")
    shown = _Shown(
        array, tuple(map(str, names)), tuple(map(str, captions)), rate,
        None if mask is None else points.to_mask(_plain(mask)),
        None if labels is None else _integers(_plain(labels)),
        None if features is None else _plain(features),
        stem,
    )  # fmt: skip
    if kind in _KINDS:
        axes, channels, draw = _KINDS[kind]
        fits = array.ndim == axes and array.shape[-1] in channels and array.dtype.kind in "buif"
        if fits and 0 not in array.shape:
            return draw(shown)
    buffer = io.BytesIO()
    np.save(buffer, array)
    return {f"{stem}.npy": buffer.getvalue()}


def not_finite(examples: Mapping[str, ArrayLike]) -> str:
    """How many examples hold NaN or an infinity, in words; empty if there is none.

    Args:
      examples: arrays `[n, ...]` of the same n examples, by the names of their fields.
    """
    arrays = [_plain(values) for values in examples.values()]
    count = max(map(len, arrays), default=0)
    lost = np.zeros(count, bool)
    for array in arrays:
        if array.dtype.kind == "f":
            lost |= ~np.isfinite(array).reshape(count, -1).all(axis=1)
    return f"{lost.sum()} of {count} samples hold numbers that are not finite" if lost.any() else ""


def write(directory: str | os.PathLike[str], files: Mapping[str, bytes]) -> list[Path]:
    """Writes files into a directory, each atomically, and returns their paths.

    Args:
      directory: the directory. It is created if it does not exist. Old files of these names are replaced, and so are
        links: nothing is written outside of the directory.
      files: the contents by name, as `show` returns them.

    Raises:
      ValueError: a name has a directory in it.
      OSError: a file cannot be written.
    """
    for name in files:
        require(name == Path(name).name != "..", "a file's name", name, "names without a directory")
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        write_atomically(directory / name, data)
    return [directory / name for name in files]


def _pictures(shown: _Shown) -> dict[str, bytes]:
    height, width = shown.values.shape[1:3]
    images = shown.values[: _fit(PICTURES, height * width, _SHEET)]
    columns = pictures.columns_for(len(images), height, width)
    return {f"{shown.stem}.png": pictures.png_bytes(pictures.grid(images, columns, shown.texts(len(images))))}


def _videos(shown: _Shown) -> dict[str, bytes]:
    frames, height, width = shown.values.shape[1:4]
    frames = min(frames, max(1, _VIDEO // (height * width)))
    clips = shown.values[: _fit(OTHERS, frames * height * width, _VIDEO), :frames]
    if shown.mask is not None:
        # Frames that do not exist are white.
        white = 255 if clips.dtype == np.uint8 else 1
        there = shown.mask[: len(clips), :frames, None, None, None]
        clips = np.where(there, clips, np.asarray(white, clips.dtype))
    texts = shown.texts(len(clips))
    return {
        f"{shown.stem}.png": videos.animation(clips, captions=texts, rate=shown.rate),
        f"{shown.stem}_frames.png": pictures.png_bytes(videos.contact_sheet(clips, texts)),
    }


def _waveforms(shown: _Shown) -> dict[str, bytes]:
    sounds = list(shown.values[:OTHERS])
    if shown.mask is not None:
        sounds = [sound[there] for sound, there in zip(sounds, shown.mask, strict=False)]
    files = {f"{shown.stem}_{i:02d}.wav": waveforms.wav_bytes(sound, shown.rate) for i, sound in enumerate(sounds)}
    texts = shown.texts(len(sounds), numbered=True)
    # A spectrogram needs a sample: of a sound of length 0 it is the one of silence.
    heard = [sound if len(sound) else np.zeros((1, 1)) for sound in sounds]
    sheet = waveforms.spectrogram_sheet(heard, shown.rate, texts)
    return {f"{shown.stem}.png": pictures.png_bytes(sheet)} | files


def _points(shown: _Shown) -> dict[str, bytes]:
    sets = shown.values[:OTHERS]
    mask = None if shown.mask is None else shown.mask[: len(sets)]
    kinds = None
    names: tuple[str, ...] = ()
    if shown.features is not None and shown.features.shape[-1] > 0:
        kinds = points.kinds_of(shown.features[: len(sets)])
        names = shown.names if shown.features.shape[-1] == len(shown.names) else ()
    texts = shown.texts(len(sets), numbered=True)
    files = {f"{shown.stem}.png": pictures.png_bytes(points.render(sets, mask, kinds, names, texts))}
    if kinds is not None and points.are_elements(names):
        files[f"{shown.stem}.xyz"] = points.xyz_bytes(sets, kinds, names, mask, texts)
    for index, one in enumerate(sets):
        marks, species = (None if a is None else a[index] for a in (mask, kinds))
        files[f"{shown.stem}_{index:02d}.ply"] = points.ply_bytes(one, marks, species, names)
    return files


def _values(shown: _Shown) -> dict[str, bytes]:
    xy = np.asarray(shown.values[:DOTS], np.float64)
    labels = None if shown.labels is None else shown.labels[: len(xy)]
    lost = int((~np.isfinite(xy)).any(axis=1).sum())
    used = [] if labels is None else sorted(set(labels.tolist()))
    picture = pictures.legend(
        pictures.scatter(xy, labels=labels),
        [_name(label, shown.names) for label in used],
        [COLOURS[label % len(COLOURS)] for label in used],
        [(f"{lost} of {len(xy)} points are not finite", NOT_FINITE)] * (lost > 0),
    )
    return {f"{shown.stem}.png": pictures.png_bytes(picture)}


# For each kind: the number of axes, the lengths of the last axis, and the function that draws it.
_KINDS: dict[str, tuple[int, Sequence[int], Callable[[_Shown], dict[str, bytes]]]] = {
    "picture": (4, (1, 3, 4), _pictures),
    "video": (5, (1, 3, 4), _videos),
    "waveform": (3, range(1, waveforms.CHANNELS + 1), _waveforms),
    "points": (3, (3,), _points),
    "values": (2, (2,), _values),
}


def _fit(most: int, each: int, budget: int) -> int:
    """How many examples of `each` pixels are shown."""
    return min(most, max(1, budget // each))


def _plain(values: Any) -> NDArray[np.generic]:
    """An array of a type that NumPy itself knows: JAX's small floats become float32, other objects text."""
    array = np.asarray(values)
    if array.dtype.kind == "O":
        return array.astype(str)
    if array.dtype.kind == "V" and array.dtype.type is not np.void:
        return array.astype(np.float32)
    return array


def _integers(labels: NDArray[np.generic]) -> NDArray[np.int64]:
    """Labels as integers; -1 where they are NaN or infinite."""
    with np.errstate(invalid="ignore"):
        return np.where(np.isfinite(labels), labels, -1).astype(np.int64)


def _name(label: int, names: Sequence[str]) -> str:
    return names[label] if 0 <= label < len(names) else str(label)
