"""What a user asks for as batch entries: one value or one per example, and refusals that name the field."""

import numpy as np
import pytest

from jaxdiff.components import Table
from jaxdiff.conditions import Label, Planes, Text, Vector
from jaxdiff.conditions.text import BEGIN, END, PADDING, read_bytes
from jaxdiff.data import to_floats
from jaxdiff.data.fields import Field
from jaxdiff.models.conditioned import Conditions
from jaxdiff.networks import TextTransformer

FIELDS = Table(
    image=Field("picture", (4, 4, 1), "uint8"),
    degraded=Field("picture", (2, 2, 1), "float32"),
    digit=Field("label", (), "int32", 3, ("zero", "one", "two")),
    plain=Field("label", (), "int32", 3),
    caption=Field("text", (), "str"),
    size=Field("values", ()),
    place=Field("values", (2,)),
    table=Field("values", (2, 2)),
)
SHORT = Text(encoder=TextTransformer(width=8, depth=1, heads=2, length=8))


@pytest.mark.parametrize(
    ("condition", "given", "entry", "expected"),
    [
        (Label("plain"), 2, "plain", [2]),
        (Label("plain"), [2, 0], "plain", [2, 0]),
        (Label("plain"), np.array([2, 0], np.int64), "plain", [2, 0]),
        (Label("digit"), "two", "digit", [2]),
        (Label("digit"), ("two", "zero"), "digit", [2, 0]),
        (Label("digit"), np.array(["two", "one"]), "digit", [2, 1]),
        (Label("digit"), 1, "digit", [1]),
        (Vector("size"), 3, "size", [3.0]),
        (Vector("size"), [3.0, 4.0], "size", [3.0, 4.0]),
        (Vector("place"), (3.0, 4.0), "place", [[3.0, 4.0]]),
        (Vector("place"), [[3.0, 4.0]] * 3, "place", [[3.0, 4.0]] * 3),
        (SHORT, "hé", "caption.bytes8", [[BEGIN, 104, 195, 169, END, PADDING, PADDING, PADDING]]),
        (SHORT, ["", "longer text"], "caption.bytes8",
         [[BEGIN, END, *[PADDING] * 6], [BEGIN, *b"longer", END]]),
        (Planes(), np.full((4, 4, 1), 255, np.uint8), "image", np.ones((1, 4, 4, 1))),
        (Planes(), np.full((2, 4, 4, 1), 0.5), "image", np.full((2, 4, 4, 1), 0.5)),
        (Planes(factor=2), np.arange(4.0).reshape(2, 2, 1), "image",
         [[[[0], [0], [1], [1]], [[0], [0], [1], [1]], [[2], [2], [3], [3]], [[2], [2], [3], [3]]]]),
    ],
)  # fmt: skip
def test_one_value_or_one_for_each_example(condition, given, entry, expected):
    found = condition.ask(given, FIELDS)
    assert list(found) == [entry] == list(condition.entries(FIELDS)) == [condition.entry]
    assert found[entry].dtype == (np.int32 if entry not in ("size", "place", "image") else found[entry].dtype)
    np.testing.assert_array_equal(found[entry], expected)


@pytest.mark.parametrize(
    ("condition", "given", "message"),
    [
        (Label("plain"), 3, r"plain = 3; allowed are integers from 0 to 2, one or \[batch\]"),
        (Label("plain"), -1, "plain = -1"),
        (Label("plain"), True, "plain = True"),
        (Label("plain"), 1.0, "plain = 1.0"),
        (Label("plain"), "zero", "plain = 'zero'; allowed are integers"),
        (Label("plain"), [[1], [2]], "plain = "),
        (Label("plain"), [[1], [2, 0]], "plain = "),
        (Label("plain"), [], "plain = "),
        (Label("digit"), "three", "digit = 'three'; allowed are names of classes: zero, one, two"),
        (Label("digit"), ["two", "zer"], "digit = 'zer'; allowed are names .*; did you mean 'zero'?"),
        (Vector("size"), "large", "size = 'large'; allowed are finite numbers"),
        (Vector("size"), np.nan, "size = nan"),
        (Vector("size"), [], "size = "),
        (Vector("place"), [1.0, np.inf], "place = "),
        (Vector("place"), [1.0, 2.0, 3.0], r"place.shape = \(3,\); allowed are \(2,\) and \[batch"),
        (Vector("place"), 1.0, r"place.shape = \(\)"),
        (Vector("place"), [[1.0], [2.0, 3.0]], "place = "),
        (SHORT, 3, "caption = 3; allowed are text"),
        (SHORT, [], "caption = "),
        (SHORT, ["a", 3], "caption = "),
        (SHORT, b"a", "caption = "),
        (Planes(), np.zeros((4, 4, 1), int), "image.dtype = int64; allowed are uint8 and floating-point types"),
        (Planes(), np.zeros((4, 4, 3)), r"image.shape = \(4, 4, 3\); allowed are \(4, 4, 1\)"),
        (Planes(factor=2), np.zeros((4, 4, 1)), r"image.shape = \(4, 4, 1\); allowed are \(2, 2, 1\)"),
        (Planes(), np.full((4, 4, 1), np.nan), "image = nan"),
        (Planes(), [[0.0], [0.0, 1.0]], "image = "),
        (Planes(), [], "image = "),
    ],
)
def test_other_values_are_refused_by_the_name_of_the_field(condition, given, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        condition.ask(given, FIELDS)


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        (Label("lable"), "field = 'lable'; allowed are fields of the data: image, degraded"),
        (Label("image"), "field = 'image'; allowed are fields of labels, and not of kind 'picture'"),
        (Text("digit"), "field = 'digit'; allowed are fields of text"),
        (Vector("table"), "field = 'table'; allowed are fields of values"),
        (Vector("digit"), "field = 'digit'"),
        (Planes("place"), "field = 'place'; allowed are fields of pictures"),
        (Planes("image", factor=3), r"factor = 3; allowed are divisors of the sides of image, \(4, 4\)"),
    ],
)
def test_a_field_that_does_not_fit_is_refused(condition, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        condition.check(FIELDS)
    with pytest.raises(ValueError, match=rf"^model\.conditions\.told\.{message}"):
        Conditions({"told": condition}, FIELDS).entries()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Label(dropout=1.5), "dropout = 1.5"),
        (lambda: Vector(dropout=-0.1), "dropout = -0.1"),
        (lambda: Planes(factor=0), "factor = 0"),
        (lambda: Planes(enlarge=0), "enlarge = 0"),
        (lambda: Text(encoder=TextTransformer(length=2)), "encoder.length = 2; allowed are integers of at least 3"),
    ],
)
def test_wrong_settings(make, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        make()


def test_the_null_entry_asks_for_nothing():
    assert Label("digit").null(FIELDS) == 3
    np.testing.assert_array_equal(Vector("place").null(FIELDS), [0, 0])
    np.testing.assert_array_equal(SHORT.null(FIELDS), read_bytes("", 8))
    np.testing.assert_array_equal(SHORT.null(FIELDS), SHORT.ask("", FIELDS)[SHORT.entry][0])
    # The byte next to grey, and exact grey where pictures are floats.
    assert np.abs(to_floats(Planes().null(FIELDS))).max() < 0.004
    np.testing.assert_array_equal(Planes("degraded").null(FIELDS), np.zeros((2, 2, 1)))
    for condition in (Label("digit"), Vector("place"), SHORT, Planes(), Planes("degraded")):
        spec = condition.entries(FIELDS)[condition.entry].spec
        assert (condition.null(FIELDS).shape, condition.null(FIELDS).dtype) == (spec.shape, np.dtype(spec.dtype))


def test_captions_say_what_was_asked():
    asked = Conditions({"a": Label("digit"), "b": Label("plain"), "c": SHORT, "d": Vector("place")}, FIELDS)
    entries = asked.ask({"a": [0, 2], "b": [1, 1], "c": ["dog", "héé"]}, 2)
    assert asked.captions(entries) == ["zero, 1, dog", "two, 1, héé"]
    # A letter that is cut is shown as a replacement.
    assert SHORT.captions(SHORT.ask("eéééé", FIELDS), FIELDS) == ["eéé\ufffd"]
    nothing = {"digit": np.array([3, 3]), "plain": np.array([3, 2]), **SHORT.ask(["", ""], FIELDS)}
    assert asked.captions(nothing) == ["", "2"]


def test_conditions_are_asked_by_name():
    conditions = Conditions({"what": Label("digit"), "where": Vector("place")}, FIELDS)
    nothing = conditions.ask({})
    assert nothing["digit"].tolist() == [3]
    assert nothing["place"].tolist() == [[0, 0]]
    some = conditions.ask({"what": "one", "where": None}, 5)
    assert some["digit"].tolist() == [1]
    assert some["place"].tolist() == [[0, 0]]
    with pytest.raises(ValueError, match=r"condition = 'wat'; .*: what, where; did you mean 'what'\?"):
        conditions.ask({"wat": 1})
    with pytest.raises(ValueError, match="number of values of what = 2; allowed are 1 and 3, one for each sample"):
        conditions.ask({"what": [0, 1]}, 3)
    with pytest.raises(ValueError, match="condition = 'what'; allowed are conditions of the model: none"):
        Conditions({}, FIELDS).ask({"what": 1})


def test_conditions_that_share_an_entry_are_asked_together():
    conditions = Conditions({"a": Label("digit"), "b": Label("digit", dropout=0.5)}, FIELDS)
    assert list(conditions.entries()) == ["digit"]
    for given in ({"a": 1}, {"b": 1}, {"a": 1, "b": "one"}):
        assert conditions.ask(given)["digit"].tolist() == [1]
    with pytest.raises(ValueError, match="b = 2; allowed are the value of the other condition"):
        conditions.ask({"a": 1, "b": 2})
