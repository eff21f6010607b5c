import json

import pytest

from jaxdiff.data import Field

FIELDS = {
    "picture": Field("picture", (4, 6, 3), "uint8"),
    "label": Field("label", (), "int32", 2, ("cat", "owl")),
    "atoms": Field("values", (5, 3), names=("H", "C", "N")),
    "mask": Field("mask", (5,), "bool", of="places"),
    "sound": Field("waveform", (100, 1), rate=8000),
    "text": Field("text", (), "str"),
}


@pytest.mark.parametrize("name", FIELDS)
def test_fields_survive_json(name):
    tree = json.loads(json.dumps(FIELDS[name].to_json()))
    assert Field.from_json(tree) == FIELDS[name]
    assert hash(Field.from_json(tree)) == hash(FIELDS[name])


def test_json_of_an_older_version_lacks_attributes():
    assert Field.from_json({"kind": "values", "shape": [2]}) == Field("values", (2,))


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"kind": "pictur"}, "data.x.kind = 'pictur'; allowed are 'picture', .*did you mean 'picture'"),
        ({"shape": [2]}, "data.x.kind is missing"),
        ({"kind": "values", "shap": [2]}, "data.x.shap is unknown; .*did you mean 'shape'"),
        ({"kind": "values", "shape": [2.5]}, r"data.x.shape.0 = 2.5; allowed are integers"),
        ({"kind": "values", "shape": [0]}, "data.x.shape = 0; allowed are integers of at least 1"),
        ([], r"data.x = \[\]"),
    ],
)
def test_strange_json_is_refused_in_one_line(tree, message):
    with pytest.raises(ValueError, match=message) as caught:
        Field.from_json(tree, "data.x")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("picture", (4, 6)), r"shape = \(4, 6\); allowed are shapes of 3 axes for the kind 'picture'"),
        (("label", (3,), "int32"), r"shape = \(3,\); allowed are shapes of 0 axes"),
        (("label", (), "float32"), "dtype = 'float32'; allowed are NumPy's names of integer types"),
        (("text",), "dtype = 'float32'; allowed are 'str'"),
        (("picture", (2, 2, 1), "int16"), "dtype = 'int16'; allowed are 'uint8' and floating-point"),
        (("picture", (2, 2, 1), "uint16"), "dtype = 'uint16'"),
        (("values", (2,), "floot"), "dtype = 'floot'; allowed are NumPy's names"),
        (("label", (), "int32", 3, ("a", "b")), r"len\(names\) = 2; allowed are 0 and 3"),
        (("values", (2,), "float32", 0, ("a",)), r"len\(names\) = 1; allowed are 0 and 2"),
        (("label", (), "int32", -1), "classes = -1"),
        (("waveform", (9, 1), "float32", 0, (), 0.5), "rate = 0.5"),
        (("values", (2,), "float32", 0, (), 0, "x"), "of = 'x'; allowed are '' for the kind 'values'"),
    ],
)
def test_attributes_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Field(*arguments)
