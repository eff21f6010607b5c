"""Metadata: text chunks are valid PNG, come back as they were given, and are the only change to a file."""

import io
import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageSequence

from jaxdiff import media
from jaxdiff.version import __version__

RNG = np.random.default_rng(0)
EXAMPLES = {
    "picture": RNG.integers(0, 256, (3, 9, 8, 3), dtype=np.uint8),
    "video": RNG.integers(0, 256, (2, 3, 8, 8, 3), dtype=np.uint8),
    "waveform": RNG.uniform(-1, 1, (2, 600, 1)),
    "points": RNG.normal(size=(2, 6, 3)),
    "values": RNG.normal(size=(20, 2)),
    "text": RNG.normal(size=(2, 5)),
}
# Quotes, two scripts, an emoji, a character that PNG texts may not hold, and a byte of a command line that is no UTF-8.
ORIGIN = {
    "run": "digits",
    "step": 3,
    "conditions": {"text": 'a "猫"\nü \N{CAT FACE} \0 \udc80'},
    "sampling": {"s": 0.5},
}


def chunks(png):
    """The kinds and data of the chunks of a PNG file, read by the specification, with their checksums."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    found, at = [], 8
    while at < len(png):
        (length,), kind = struct.unpack(">I", png[at : at + 4]), png[at + 4 : at + 8]
        data, end = png[at + 8 : at + 8 + length], at + 12 + length
        assert struct.unpack(">I", png[end - 4 : end]) == (zlib.crc32(kind + data),)
        found.append((kind, data))
        at = end
    return found


@pytest.mark.parametrize("kind", EXAMPLES)
def test_texts_are_the_only_change(kind):
    before = media.show(EXAMPLES[kind], kind, rate=8000 if kind == "waveform" else 8)
    after = media.with_origin(before, ORIGIN)
    assert list(after) == list(before)
    assert any(name.endswith(".png") for name in before) == (kind != "text")
    for name, contents in after.items():
        if name.endswith(".png"):
            found = chunks(contents)
            assert [one for one, _ in found[:3]] == [b"IHDR", b"iTXt", b"iTXt"]
            assert found[:1] + found[3:] == chunks(before[name])
        else:
            assert contents == before[name]


@pytest.mark.parametrize("kind", ["picture", "video"])
def test_the_origin_comes_back(kind):
    before = media.show(EXAMPLES[kind], kind)
    after = media.with_origin(before, ORIGIN)
    for name in before:
        with Image.open(io.BytesIO(before[name])) as plain, Image.open(io.BytesIO(after[name])) as picture:
            frames = [[np.asarray(frame) for frame in ImageSequence.Iterator(one)] for one in (plain, picture)]
            np.testing.assert_array_equal(*frames)
            assert list(picture.text) == ["Software", "jaxdiff"]
            assert picture.text["Software"] == f"jaxdiff {__version__}"
            assert json.loads(picture.text["jaxdiff"]) == {**ORIGIN, "version": __version__}


def test_what_is_no_png_is_left_alone():
    files = {"a.png": b"no picture", "b.png": b""}
    assert media.with_origin(files, ORIGIN) == files
