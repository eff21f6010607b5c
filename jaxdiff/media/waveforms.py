"""Waveforms: WAV files, and spectrograms as pictures."""

from __future__ import annotations

import io
import math
import wave
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int16, UInt8
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from jaxdiff.checks import not_negative, require
from jaxdiff.media.pictures import columns_for, grid, legend
from jaxdiff.media.pixels import INK, NOT_FINITE

RATE = 16000
"""Samples per second where the rate is not known."""
CHANNELS = 8
"""The largest number of channels of a WAV file."""
ROWS, COLUMNS = 128, 320
"""The size of the picture of one spectrogram in pixels."""
DECIBELS = 80
"""The range of a spectrogram: what is weaker than the strongest part of the sheet by more is dark."""
_SCALE = ((12, 10, 44), (38, 58, 128), (26, 132, 140), (112, 194, 92), (252, 240, 158))


def wav_bytes(waveform: ArrayLike, rate: float = 0) -> bytes:
    """The bytes of a WAV file with samples of 16 bits.

    Args:
      waveform: `[time, channels]` with 1 to 8 channels, or `[time]`: int16 samples, bytes (uint8), or numbers in
        [-1, 1] (other numbers are clipped). Samples that are NaN or infinite become silence.
      rate: samples per second, rounded to an integer; 0 if it is not known (16000).

    Raises:
      ValueError: `waveform` has another shape, or `rate` is negative.
      TypeError: `waveform` holds no real numbers.
    """
    sound = np.asarray(waveform)
    sound = sound[:, None] if sound.ndim == 1 else sound
    good = sound.ndim == 2 and 1 <= sound.shape[1] <= CHANNELS
    require(good, "waveform.shape", np.shape(waveform), f"[time] or [time, channels] with 1 to {CHANNELS} channels")
    not_negative("rate", rate)
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(sound.shape[1])
        file.setsampwidth(2)
        # The header holds the bytes per second in 32 bits.
        file.setframerate(min(max(1, round(rate or RATE)), (2**32 - 1) // (2 * sound.shape[1])))
        file.writeframes(_to_int16(sound).tobytes())
    return buffer.getvalue()


def spectrogram(waveform: ArrayLike, rate: float = 0) -> Float[np.ndarray, "128 320"]:
    """The powers of a waveform's short-time Fourier transform, as a picture of 128 by 320 numbers.

    The windows are Hann windows of about 30 milliseconds, a power of two of at least 256 samples. Their amplitudes are
    scaled such that a sine of amplitude 1 has power 1. Row r, from the bottom, is the largest power at the frequencies

        [r, r + 1) rate / 256

    and column c of the windows whose centres are at the times [c, c + 1) time / 320. The powers of several channels are
    added.

    Args:
      waveform: as of `wav_bytes`, with any number of channels and at least one sample.
      rate: samples per second; 0 if it is not known (16000).

    Returns:
      Powers. A column is NaN where a sample under its windows is NaN or infinite.

    Raises:
      ValueError: `waveform` has another shape.
      TypeError: `waveform` holds no real numbers.
    """
    sound = np.asarray(waveform)
    sound = sound[:, None] if sound.ndim == 1 else sound
    require(sound.ndim == 2 and 0 not in sound.shape, "waveform.shape", np.shape(waveform), "[time, channels]")
    not_negative("rate", rate)
    numbers = _to_unit(sound)
    time = len(numbers)
    size = 2 ** min(max(8, round(math.log2(0.03 * (rate or RATE)))), 14)
    # SciPy's and NumPy's symmetric Hann windows lack the last sample of a period.
    window = np.hanning(size + 1)[:-1]
    half = size // 2
    padded = np.pad(numbers, ((half, half), (0, 0)))
    windows = sliding_window_view(padded, size, axis=0)  # [time + 1, channels, size]; number t is centred at sample t
    powers = np.empty((ROWS, COLUMNS))
    for column in range(COLUMNS):
        begin, end = column * time // COLUMNS, -(-(column + 1) * time // COLUMNS)
        # Half a window is the largest step with which no part of the sound falls between two windows.
        parts = windows[begin : max(end, begin + 1) : half]
        amplitudes = np.abs(np.fft.rfft(parts * window, axis=-1)[..., :half]) * (2 / window.sum())
        power = (amplitudes**2).sum(axis=1).max(axis=0)
        powers[:, column] = power.reshape(ROWS, -1).max(axis=1)[::-1]
    return powers


def spectrogram_sheet(
    waveforms: Sequence[ArrayLike] | NDArray[np.generic],
    rate: float = 0,
    captions: Sequence[str] | None = None,
    columns: int | None = None,
) -> UInt8[np.ndarray, "height width 3"]:
    """Spectrograms side by side. Time runs right and frequency runs up, to half the rate.

    The colours show 80 decibels, from dark blue to yellow, down from the largest power of the sheet. Columns with
    samples that are NaN or infinite are magenta.

    Args:
      waveforms: n waveforms as of `spectrogram`; their lengths may differ.
      rate: samples per second; 0 if it is not known.
      captions: n captions. If the rate is known, the seconds follow.
      columns: spectrograms in a row; None for a sheet that is about square.

    Raises:
      ValueError: there is no waveform, a waveform has another shape, or an argument is wrong as in `pictures.grid`.
    """
    require(len(waveforms) > 0, "len(waveforms)", len(waveforms), "integers of at least 1")
    powers = np.stack([spectrogram(sound, rate) for sound in waveforms])
    finite = np.isfinite(powers)
    largest = max(float(powers[finite].max(initial=0.0)), 1e-30)
    decibels = 10 * np.log10(np.maximum(np.where(finite, powers, 0) / largest, 10 ** (-DECIBELS / 10)))
    places = (1 + decibels / DECIBELS) * (len(_SCALE) - 1)
    channels = [np.interp(places, np.arange(len(_SCALE)), np.array(_SCALE)[:, c]) for c in range(3)]
    cells = np.where(finite[..., None], np.rint(np.stack(channels, axis=-1)), NOT_FINITE).astype(np.uint8)
    columns = columns_for(len(cells), ROWS, COLUMNS) if columns is None else columns
    texts = captions
    if captions is not None and rate and len(captions) == len(cells):
        texts = [f"{text}, {len(np.asarray(s)) / rate:.2f} s" for text, s in zip(captions, waveforms, strict=True)]
    top = f"Frequencies: 0 to {rate / 2000:.4g} kHz. " if rate else ""
    return legend(
        grid(cells, columns, texts), notes=[(f"{top}Colours: down to {DECIBELS} dB below the strongest.", INK)]
    )


def _to_unit(sound: NDArray[np.generic]) -> Float[np.ndarray, "*any"]:
    """Samples as float64 in [-1, 1]; NaN where they are NaN or infinite."""
    require(sound.dtype.kind in "buif", "waveform.dtype", sound.dtype, "real numbers", TypeError)
    if sound.dtype == np.int16:
        return sound.astype(np.float64) / 32768
    if sound.dtype == np.uint8:
        return sound.astype(np.float64) / 127.5 - 1
    return np.where(np.isfinite(sound), np.clip(sound, -1, 1), np.nan).astype(np.float64)


def _to_int16(sound: NDArray[np.generic]) -> Int16[np.ndarray, "*any"]:
    if sound.dtype == np.int16:
        return sound.astype("<i2")
    return np.rint(np.nan_to_num(_to_unit(sound), nan=0.0) * 32767).astype("<i2")
