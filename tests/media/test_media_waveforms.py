"""Waveforms: SciPy reads the files, and spectrograms of sines are known."""

import io
import wave

import numpy as np
import pytest
import scipy.io.wavfile
import scipy.signal

from jaxdiff.media.pictures import GAP
from jaxdiff.media.pixels import NOT_FINITE
from jaxdiff.media.waveforms import COLUMNS, DECIBELS, ROWS, spectrogram, spectrogram_sheet, wav_bytes

RATE = 8000


def sine(frequency, seconds=0.5, rate=RATE):
    return np.sin(2 * np.pi * frequency * np.arange(int(seconds * rate)) / rate)[:, None]


@pytest.mark.parametrize("channels", [1, 2, 8])
def test_scipy_reads_the_samples(channels):
    sound = np.random.default_rng(0).uniform(-1, 1, (100, channels)).astype(np.float32)
    rate, found = scipy.io.wavfile.read(io.BytesIO(wav_bytes(sound, 22050)))
    assert (rate, found.dtype) == (22050, np.int16)
    np.testing.assert_allclose(found.reshape(sound.shape) / 32767, sound, atol=0.5001 / 32767)


def test_the_standard_library_reads_the_header():
    with wave.open(io.BytesIO(wav_bytes(np.zeros(7)))) as file:
        assert file.getparams()[:4] == (1, 2, 16000, 7)


def test_16_bits_are_kept_and_other_numbers_are_clipped():
    def read(sound):
        return scipy.io.wavfile.read(io.BytesIO(wav_bytes(sound, RATE)))[1].tolist()

    assert read(np.array([-32768, -1, 0, 32767], np.int16)) == [-32768, -1, 0, 32767]
    assert read(np.array([0, 255], np.uint8)) == [-32767, 32767]
    assert read(np.array([-1e300, 2.0, np.nan, np.inf, -np.inf])) == [-32767, 32767, 0, 0, 0]


@pytest.mark.parametrize("rate", [2000, 8000, 44100])
def test_a_sine_is_brightest_at_its_frequency(rate):
    for row in (3, 20, 100):
        powers = spectrogram(0.5 * sine((row + 0.5) * rate / 256, 0.5, rate), rate)
        assert powers.shape == (ROWS, COLUMNS)
        middle = powers[::-1, 40:-40]
        assert set(middle.argmax(axis=0).tolist()) <= {row, row - 1, row + 1}
        assert middle.mean(axis=1).argmax() in (row, row + 1)  # the frequency may lie between two windows' bins


def test_powers_are_those_of_scipys_transform():
    """A sine at a bin's frequency has the square of its amplitude; noise is compared with SciPy, window by window."""
    powers = spectrogram(0.5 * sine(1000), RATE)[:, 40:-40]
    np.testing.assert_allclose(powers[ROWS - 1 - 32], 0.25, rtol=1e-6)
    # 320 samples: one window for each column.
    noise = np.random.default_rng(1).uniform(-1, 1, (COLUMNS, 2))
    window = scipy.signal.windows.hann(256, sym=False)
    transform = scipy.signal.ShortTimeFFT(window, hop=1, fs=RATE, scale_to="magnitude")
    expected = (4 * np.abs(transform.stft(noise.T, p0=0, p1=COLUMNS)) ** 2).sum(axis=0)[:-1]
    np.testing.assert_allclose(spectrogram(noise, RATE)[::-1], expected, atol=1e-12)


def test_no_part_of_a_long_sound_is_missed():
    sound = np.zeros(300_000)
    places = np.random.default_rng(2).integers(0, len(sound), 20)
    for place in places.tolist():
        click = sound.copy()
        click[place] = 1.0
        assert spectrogram(click, RATE)[:, place * COLUMNS // len(sound)].max() > 0


def test_colours_show_decibels_and_magenta_what_is_not_finite():
    loud, faint, broken = sine(1000), 1e-2 * sine(1000), sine(1000)
    broken[2000, 0] = np.nan
    sheet = spectrogram_sheet([loud, faint, broken], RATE, columns=1)
    cells = [sheet[GAP + i * (ROWS + GAP) :, GAP:][:ROWS, :COLUMNS] for i in range(3)]
    row = ROWS - 1 - 1000 * 256 // RATE
    assert cells[0][row, 160].tolist() == [252, 240, 158]
    # 40 decibels down is the middle of the scale of 80.
    assert DECIBELS == 80
    np.testing.assert_allclose(cells[1][row, 160].astype(int), [26, 132, 140], atol=2)
    magenta = (cells[2] == NOT_FINITE).all(-1)
    assert magenta[:, 160].all()
    assert not magenta[:, :100].any()
    assert not (cells[0] == NOT_FINITE).all(-1).any()


def test_silence_and_single_samples_have_spectrograms():
    assert (spectrogram(np.zeros(1)) == 0).all()
    sheet = spectrogram_sheet(np.zeros((2, 1, 1)), 8000, ["a", "b"])
    assert (sheet[GAP + 40 :, GAP:][:40, :40] == (12, 10, 44)).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: wav_bytes(np.zeros((4, 9))), r"waveform.shape = \(4, 9\); allowed are \[time\] or \[time, channels\]"),
        (lambda: wav_bytes(np.zeros(4), -1), "rate = -1"),
        (lambda: spectrogram(np.zeros(0)), r"waveform.shape = \(0,\)"),
        (lambda: spectrogram(np.zeros(4), -1), "rate = -1"),
        (lambda: spectrogram_sheet([]), r"len\(waveforms\) = 0"),
    ],
)
def test_wrong_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_only_numbers_are_sound():
    with pytest.raises(TypeError, match=r"waveform.dtype = complex128; allowed are real numbers"):
        wav_bytes(np.zeros(4, complex))
