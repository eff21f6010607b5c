"""Videos: Pillow reads back every frame."""

import io

import numpy as np
import pytest
from PIL import Image, ImageSequence

from jaxdiff.media.pictures import GAP, grid
from jaxdiff.media.videos import animation, contact_sheet

CLIPS = np.random.default_rng(0).integers(0, 256, (3, 5, 34, 36, 3), dtype=np.uint8)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_frames_are_grids_of_the_videos(dtype):
    clips = CLIPS if dtype == np.uint8 else (CLIPS / 127.5 - 1).astype(np.float32)
    file = Image.open(io.BytesIO(animation(clips, 2, ["a", "b", "c"], rate=20)))
    assert (file.format, file.n_frames, file.info["loop"]) == ("PNG", 5, 0)
    for t, frame in enumerate(ImageSequence.Iterator(file)):
        np.testing.assert_array_equal(np.asarray(frame.convert("RGB")), grid(CLIPS[:, t], 2, ["a", "b", "c"]))
        assert frame.info["duration"] == 50


@pytest.mark.parametrize(("rate", "milliseconds"), [(0, 125), (1e9, 1), (1e-9, 65535)])
def test_rates_without_bounds(rate, milliseconds):
    assert Image.open(io.BytesIO(animation(CLIPS, rate=rate))).info["duration"] == milliseconds


def test_a_still_video_is_a_picture():
    still = np.repeat(CLIPS[:, :1], 4, axis=1)
    for clips in (still, CLIPS[:, :1]):
        file = Image.open(io.BytesIO(animation(clips, 3)))
        np.testing.assert_array_equal(np.asarray(file.convert("RGB")), grid(CLIPS[:, 0], 3))


def test_a_contact_sheet_has_a_row_for_each_video():
    sheet = contact_sheet(CLIPS, frames=3)
    top = sheet.shape[0] - 3 * (34 + GAP)  # below the numbers of the frames
    assert top > GAP
    for row in range(3):
        for column, t in enumerate((0, 2, 4)):
            y, x = top + row * (34 + GAP), GAP + column * (36 + GAP)
            np.testing.assert_array_equal(sheet[y : y + 34, x : x + 36], CLIPS[row, t])
    assert contact_sheet(CLIPS).shape[1] == GAP + 5 * (36 + GAP)
    assert contact_sheet(CLIPS, ["a", "b", "c"]).shape[1] > GAP + 5 * (36 + GAP)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: animation(CLIPS[0]), r"videos.shape = \(5, 34, 36, 3\); allowed are \[n, frames"),
        (lambda: contact_sheet(CLIPS[:, :0]), r"videos.shape = \(3, 0, 34, 36, 3\)"),
        (lambda: animation(CLIPS, rate=-1), "rate = -1; allowed are finite numbers of at least 0"),
        (lambda: contact_sheet(CLIPS, frames=0), "frames = 0"),
    ],
)
def test_wrong_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
