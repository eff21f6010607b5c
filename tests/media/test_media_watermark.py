"""Watermarks: they are found again after PNG and JPEG, and in no other picture; they are too faint to be seen."""

import io
import multiprocessing
import sys

import numpy as np
import pytest
from PIL import Image, ImageSequence
from sklearn.datasets import load_digits

from jaxdiff import media
from jaxdiff.media import watermark

DIGITS = np.rint(load_digits().images[:36, ..., None] / 16 * 255).astype(np.uint8)


@pytest.fixture
def library():
    try:
        return watermark.import_library()
    except ImportError as error:
        pytest.skip(str(error))


@pytest.fixture
def sheet():
    return media.show(DIGITS, "picture")


def frames(png):
    with Image.open(io.BytesIO(png)) as picture:
        return [
            (np.asarray(one.convert("RGB"), float), one.info.get("duration")) for one in ImageSequence.Iterator(picture)
        ]


def test_the_mark_is_found_after_png_and_jpeg_and_not_seen(library, sheet, tmp_path):
    (before,), (after,) = sheet.values(), watermark.marked(sheet).values()
    ((old, _),), ((new, _),) = frames(before), frames(after)
    assert 10 * np.log10(255**2 / np.mean((old - new) ** 2)) > 40  # dB
    assert watermark.is_marked(io.BytesIO(after))
    assert not watermark.is_marked(io.BytesIO(before))
    for quality in (90, 75):
        path = tmp_path / f"{quality}.jpg"
        Image.open(io.BytesIO(after)).save(path, quality=quality)
        assert watermark.is_marked(path)
    described = media.with_origin({"a.png": after}, {"run": "digits"})["a.png"]
    assert watermark.is_marked(io.BytesIO(described))


def test_every_frame_is_marked_and_lasts_as_long(library):
    clips = np.random.default_rng(0).integers(0, 256, (1, 3, 120, 120, 3), dtype=np.uint8)
    clips[:, 1] = clips[:, 0]
    before = media.show(clips, "video", rate=4)["samples.png"]
    after = watermark.marked({"a.png": before, "a.wav": b"sound"})
    assert after["a.wav"] == b"sound"
    shown = frames(after["a.png"])
    assert [duration for _, duration in shown] == [500, 250] == [duration for _, duration in frames(before)]
    for pixels, _ in shown:
        buffer = io.BytesIO()
        Image.fromarray(pixels.astype(np.uint8)).save(buffer, "PNG")
        assert watermark.is_marked(buffer)


@pytest.mark.parametrize("value", [0, 255])
def test_the_least_picture_holds_the_mark(library, value):
    """In a PNG file, even if there is nothing in the picture that could hide it."""
    plain = media.png_bytes(np.full((119, 119, 3), value, np.uint8))
    assert not watermark.is_marked(io.BytesIO(plain))
    assert watermark.is_marked(io.BytesIO(watermark.marked({"a.png": plain})["a.png"]))


def test_what_cannot_be_marked_is_refused(sheet):
    watermark.check(sheet)
    for size, good in ((119, True), (118, False)):  # 15 blocks of 8 pixels, of which the last may be a pixel short
        files = {"a.png": media.png_bytes(np.zeros((size, size, 3), np.uint8)), "a.npy": b""}
        if good:
            watermark.check(files)
        else:
            with pytest.raises(
                ValueError, match=r"size of the picture = \(118, 118\); allowed are .* at least 224 blocks"
            ):
                watermark.check(files)
    with pytest.raises(ValueError, match="watermark = True; allowed are False for samples that are not shown as pict"):
        watermark.check({"a.npy": b""})


@pytest.mark.parametrize("method", [None, "spawn"])
def test_the_library_leaves_the_start_method_of_processes_alone(library, method, monkeypatch):
    before = multiprocessing.get_start_method(allow_none=True)
    for name in [name for name in sys.modules if name.startswith("blind_watermark")]:
        monkeypatch.delitem(sys.modules, name)
    try:
        multiprocessing.set_start_method(method, force=True)
        watermark.import_library()
        assert multiprocessing.get_start_method(allow_none=True) == method
    finally:
        multiprocessing.set_start_method(before, force=True)


def test_an_absent_library_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "blind_watermark", None)
    with pytest.raises(ImportError, match=r"pip install 'jaxdiff\[watermark\]'") as error:
        watermark.import_library()
    assert "\n" not in str(error.value)
