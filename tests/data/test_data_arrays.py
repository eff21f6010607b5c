import numpy as np
import pytest

from jaxdiff.components import from_json, to_json
from jaxdiff.data import Arrays, Dataset, Examples, Field, from_arrays


def test_kinds_follow_from_the_arrays():
    n = 3
    arrays = {
        "image": np.zeros((n, 4, 5, 3), np.uint8),
        "label": [2, 0, 1],
        "caption": ["a", "bb", "ç"],
        "word": np.array(["x", "y", "z"], object),
        "place": np.ones((n, 6, 3)),
        "place_mask": np.ones((n, 6), bool),
        "other_mask": np.ones((n, 6), bool),
        "height": np.array([0.5, 1.5, 2.5], np.float16),
    }
    examples = from_arrays(arrays)
    assert examples.fields == {
        "image": Field("picture", (4, 5, 3), "uint8"),
        "label": Field("label", (), "int32", 3),
        "caption": Field("text", (), "str"),
        "word": Field("text", (), "str"),
        "place": Field("values", (6, 3)),
        "place_mask": Field("mask", (6,), "bool", of="place"),
        "other_mask": Field("mask", (6,), "bool"),
        "height": Field("values"),
    }
    assert len(examples) == n
    record = examples.source[2]
    assert (record["label"], record["caption"], record["word"], record["height"]) == (1, "ç", "z", 2.5)
    assert {name: record[name].dtype for name in ("label", "place", "height")} == {
        "label": np.int32,
        "place": np.float32,
        "height": np.float32,
    }
    assert from_arrays(**arrays).fields == examples.fields


def test_classes_and_names_can_be_given():
    examples = from_arrays(label=[0, 1], kind=[1, 0], x=np.ones((2, 2)), classes={"kind": 5}, names={"label": "abc"})
    assert examples.fields["label"] == Field("label", (), "int32", 3, ("a", "b", "c"))
    assert examples.fields["kind"] == Field("label", (), "int32", 5)


def test_a_field_says_what_arrays_cannot():
    field = Field("waveform", (10, 1), rate=8000)
    examples = from_arrays(sound=np.ones((2, 10, 1), np.float64), fields={"sound": field})
    assert examples.fields == {"sound": field}
    assert examples.source.columns["sound"].dtype == np.float32


def test_arrays_are_a_data_set_that_json_cannot_hold():
    examples = from_arrays(x=np.ones((2, 2)))
    assert Arrays(examples).open() is examples
    assert isinstance(Arrays(examples).open(), Examples)
    reopened = from_json(Dataset, to_json(Arrays(examples)), "data")
    with pytest.raises(ValueError, match=r"examples is missing; .* has to be given its arrays again"):
        reopened.open()


X = np.zeros((3, 2))


@pytest.mark.parametrize(
    ("arrays", "options", "error", "message"),
    [
        ({}, {}, ValueError, "arrays = {}; allowed are at least one array"),
        (
            {"x": np.zeros((3, 4, 4), np.uint8)},
            {},
            TypeError,
            r"x has the type uint8 and the shape \(3, 4, 4\); allowed are pictures",
        ),
        ({"x": np.zeros((3, 2), np.int64)}, {}, TypeError, "x has the type int64"),
        ({"x": np.zeros(3, object)}, {}, TypeError, "x has the type object"),
        ({"x": 1.0}, {}, ValueError, r"x.shape = \(\)"),
        ({"x": np.zeros((0, 2))}, {}, ValueError, r"x.shape = \(0, 2\); allowed are shapes .* without a zero"),
        ({"x": np.array([[0.0, np.nan]])}, {}, ValueError, "x = nan; allowed are finite numbers"),
        ({"x": X, "y": np.zeros((2, 2))}, {}, ValueError, r"len\(y\) = 2; allowed are 3, the length of 'x'"),
        ({"x": X, "y": [0, 1, -1]}, {}, ValueError, r"y.min\(\) = -1; allowed are integers of at least 0"),
        ({"y": [0, 1, 2]}, {"names": {"y": "ab"}}, ValueError, r"y.max\(\) = 2; allowed are integers of at most 1"),
        ({"x": X}, {"names": {"y": "ab"}}, ValueError, "a name in names = 'y'; allowed are names of arrays, 'x'"),
        ({"x": X}, {"fields": {"x": Field("values", (3,))}}, ValueError, r"x.shape\[1:\] = \(2,\); allowed are \(3,\)"),
        ({"x": X}, {"fields": {"x": Field("values", (2,), "int32")}}, TypeError, "x.dtype = float64; .* become int32"),
        ({"x": X}, {"fields": {"x": Field("text", (), "str")}}, TypeError, "x.dtype = float64; allowed are strings"),
        ({"x": [2**40]}, {"fields": {"x": Field("values", (), "int32")}}, ValueError, "range of x = .* to 2147483647"),
    ],
)
def test_from_arrays_refuses(arrays, options, error, message):
    with pytest.raises(error, match=message):
        from_arrays(arrays, **options)
