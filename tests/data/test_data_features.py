"""Features, read from the values that TFDS gives; `test_data_tfds.py` reads them from disk."""

import io

import numpy as np
import pytest
from PIL import Image

from jaxdiff.components import from_json, to_json
from jaxdiff.data import Field
from jaxdiff.data.features import Declared, Feature, Label, Padded, Picture, Points, Text, Values, Video, Waveform

RGB = Declared("picture", (None, None, 3), "uint8")
FRAMES = Declared("pictures", (None, 4, 4, 1), "uint8")
SOUND = Declared("numbers", (None,), "int16")


def numbers(*shape, dtype="float32"):
    return Declared("numbers", shape, dtype)


def png(pixels):
    out = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(out, "png")
    return out.getvalue()


def read(feature, raw, declared, name="x"):
    fields = feature.fields(name, declared)
    entries = feature.read(name, raw, fields)
    assert entries.keys() == fields.keys()
    for entry, value in entries.items():
        assert np.shape(value) == fields[entry].shape
    return fields, entries


def test_pictures_are_cropped_or_padded():
    wide = np.full((4, 8, 3), 7)
    fields, entries = read(Picture(size=4), png(wide), RGB)
    assert fields == {"x": Field("picture", (4, 4, 3), "uint8")}
    np.testing.assert_array_equal(entries["x"], wide[:, :4])
    _, padded = read(Picture(size=4, fit="pad"), png(wide), RGB)
    assert padded["x"][:, 0, 0].tolist() == [255, 7, 7, 255]


@pytest.mark.parametrize(("count", "every", "expected"), [(2, 1, [0, 1, 1]), (5, 1, [0, 1, 2]), (5, 2, [0, 2, 4])])
def test_videos_are_cut_or_hold_their_last_frame(count, every, expected):
    frames = [png(np.full((4, 4), i)) for i in range(count)]
    fields, entries = read(Video(3, rate=12, every=every), frames, FRAMES)
    assert fields == {"x": Field("video", (3, 4, 4, 1), "uint8", rate=12)}
    assert entries["x"][:, 0, 0, 0].tolist() == expected


def test_waveforms_are_scaled_and_cut_or_end_with_silence():
    sound = np.array([-32768, 16384, 32767], np.int16)
    fields, entries = read(Waveform(4, rate=8000), sound, SOUND)
    assert fields == {"x": Field("waveform", (4, 1), rate=8000)}
    assert entries["x"].dtype == np.float32
    assert entries["x"][:, 0].tolist() == [-1, 0.5, 32767 / 32768, 0]
    assert read(Waveform(2), sound, SOUND)[1]["x"][:, 0].tolist() == [-1, 0.5]
    stereo = np.array([[0.25, -2.0]])
    assert read(Waveform(2), stereo, numbers(None, 2, dtype="float64"))[1]["x"].tolist() == [[0.25, -2], [0, 0]]


def test_points_have_a_mask():
    places = np.arange(6.0).reshape(2, 3)
    fields, entries = read(Points(3), places, numbers(None, 3))
    assert fields == {"x": Field("points", (3, 3)), "x_mask": Field("mask", (3,), "bool", of="x")}
    np.testing.assert_array_equal(entries["x"], [*places, [0, 0, 0]])
    assert entries["x_mask"].tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("feature", "raw", "declared", "names", "expected"),
    [
        (Padded(3, values=(6, 1)), [1, 6], numbers(None, dtype="int32"), ("6", "1"), [[0, 1], [1, 0], [0, 0]]),
        (Padded(2, values=(1, 6), names=("H", "C")), [6], numbers(None, dtype="int64"), ("H", "C"), [[0, 1], [0, 0]]),
        (Padded(2, classes=3), [2], numbers(None, dtype="int64"), (), [[0, 0, 1], [0, 0, 0]]),
        (Padded(2), [5], numbers(None, dtype="int32"), (), [[5], [0]]),
        (Padded(2, names=("a", "b")), [[0.5, -1]], numbers(None, 2), ("a", "b"), [[0.5, -1], [0, 0]]),
    ],
)
def test_rows_are_padded(feature, raw, declared, names, expected):
    fields, entries = read(feature, np.asarray(raw), declared)
    assert fields == {"x": Field("values", np.shape(expected), names=names)}
    assert entries["x"].tolist() == expected


def test_labels_text_and_values():
    classes = Declared("label", (), "int64", ("cat", "owl"))
    fields, entries = read(Label(), 1, classes)
    assert (fields, entries) == ({"x": Field("label", (), "int32", 2, ("cat", "owl"))}, {"x": 1})
    assert read(Label(names=("a", "b")), 1, classes)[0] == {"x": Field("label", (), "int32", 2, ("a", "b"))}
    assert read(Label(7), 6, numbers(dtype="int32"))[0] == {"x": Field("label", (), "int32", 7)}
    fields, entries = read(Text(), "ünïcode".encode(), Declared("text"))
    assert (fields, entries) == ({"x": Field("text", (), "str")}, {"x": "ünïcode"})
    fields, entries = read(Values(("a", "b")), [1, 2], numbers(2, dtype="int64"))
    assert fields == {"x": Field("values", (2,), names=("a", "b"))}
    assert entries["x"].dtype == np.float32


@pytest.mark.parametrize(
    ("feature", "declared", "message"),
    [
        (Picture(), RGB, r"fields\.x\.size = None; allowed are positive integers: .*\(None, None, 3\)"),
        (
            Picture(4),
            Declared("picture", (4, 4, 4), "uint8"),
            r"fields\.x = picture of type uint8 and shape \(4, 4, 4\)",
        ),
        (Picture(4), Declared("picture", (4, 4, 1), "uint16"), "1 or 3 channels"),
        (Picture(4), FRAMES, "allowed are picture of type uint8"),
        (Video(3), RGB, "allowed are pictures of type uint8"),
        (
            Waveform(3),
            numbers(None, dtype="int64"),
            r"int64 and shape \(None,\); allowed are int16 samples or floating",
        ),
        (Waveform(3), numbers(None, None), "allowed are int16 samples"),
        (Points(3), numbers(None), r"allowed are floating-point numbers of shape \[n, dimensions\]"),
        (Padded(3, classes=2), numbers(None), "allowed are integers of shape"),
        (Padded(3), numbers(None, None), r"allowed are numbers of shape \[n\] or \[n, columns\]"),
        (Padded(3, names=("a",)), numbers(None, 2), r"fields\.x\.names = \('a',\); allowed are \(\) and 2 names"),
        (Label(), numbers(dtype="int32"), "allowed are class labels, and single integers where Label is given classes"),
        (Label(3), Declared("label", (), "int64", ("a",)), r"fields\.x\.classes = 3; allowed are 0 and 1"),
        (Text(), numbers(), "allowed are text"),
        (Values(), numbers(None), "numbers whose shape is known"),
        (Values(), Declared("other"), "fields.x = of a kind that cannot be read"),
    ],
)
def test_features_of_other_kinds_are_refused(feature, declared, message):
    with pytest.raises(ValueError, match=message):
        feature.fields("x", declared)


@pytest.mark.parametrize(
    ("feature", "raw", "declared", "message"),
    [
        (Picture(4), b"no picture", RGB, "not a picture: .*"),
        (Video(3), [], FRAMES, "frames of 'x' = 0"),
        (Video(1), [png(np.zeros((4, 5)))], FRAMES, r"shape of a frame = \(4, 5, 1\); allowed are \(4, 4, 1\)"),
        (
            Points(1),
            np.zeros((2, 3)),
            numbers(None, 3),
            r"rows of 'x' = 2; allowed are at most 1, the setting .*x\.count",
        ),
        (Padded(2, values=(1, 6)), np.array([1, 9]), numbers(None, dtype="int32"), "x = 9; allowed are 1, 6"),
        (Label(), -1, Declared("label", (), "int64", ("a",)), "x = -1; allowed are integers from 0 to 0"),
    ],
)
def test_values_that_do_not_fit_are_refused(feature, raw, declared, message):
    with pytest.raises(ValueError, match=message):
        feature.read("x", raw, feature.fields("x", declared))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Picture(0), "size = 0"),
        (lambda: Picture(4, "stretch"), "fit = 'stretch'; allowed are 'crop', 'pad'"),
        (lambda: Video(0), "frames = 0"),
        (lambda: Video(3, every=0), "every = 0"),
        (lambda: Waveform(0), "length = 0"),
        (lambda: Points(-1), "count = -1"),
        (lambda: Padded(3, classes=2, values=(1,)), "classes = 2; allowed are 0 with values"),
        (lambda: Padded(3, values=(1, 1)), r"values = \(1, 1\); allowed are different integers"),
        (lambda: Label(3, ("a",)), r"len\(names\) = 1; allowed are 0 and 3"),
    ],
)
def test_settings_are_checked(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_features_survive_json():
    for feature in (Picture(8, "pad"), Video(3, 8, 5), Waveform(9, 8000), Points(3), Padded(3, values=(1, 6)), Label()):
        again = from_json(Feature, to_json(feature), "fields.x")
        assert again == feature
        assert hash(again) == hash(feature)
