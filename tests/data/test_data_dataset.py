"""How data sets show examples: which entry goes to `jaxdiff.media.show` with which others."""

import inspect
import io

import numpy as np
import pytest
from PIL import Image

import jaxdiff.media
from jaxdiff.components import from_json, kinds_of, settings_of, to_json
from jaxdiff.data import Dataset, Digits, Examples, Field, Toy


@pytest.fixture
def asked(monkeypatch):
    """The arguments of every call of `media.show`, by stem."""
    calls = {}

    def show(values, kind, *, stem, **options):
        calls[stem] = {"values": values, "kind": kind} | {
            name: value for name, value in options.items() if value is not None
        }
        return {f"{stem}.png": b""}

    monkeypatch.setattr(jaxdiff.media, "show", show)
    return calls


def test_points_are_shown_with_their_mask_and_their_features(asked):
    n = 2
    x = {"place": np.zeros((n, 5, 3)), "atom": np.ones((n, 5, 2)), "there": np.ones((n, 5)), "energy": np.zeros(n)}
    fields = {
        "place": Field("points", (5, 3)),
        "atom": Field("values", (5, 2), names=("H", "C")),
        "there": Field("mask", (5,), "bool", of="place"),
        "energy": Field("values"),
        "label": Field("label", (), "int32", 2),
    }
    assert set(Dataset().show(x, fields, ["a", "b"])) == {"samples_place.png", "samples_energy.png"}
    given = asked["samples_place"]
    assert (given["kind"], given["names"], given["captions"]) == ("points", ("H", "C"), ["a", "b"])
    assert given["values"] is x["place"]
    assert given["features"] is x["atom"]
    assert given["mask"] is x["there"]
    assert "features" not in asked["samples_energy"]
    assert "mask" not in asked["samples_energy"]


def test_labels_and_rates_are_told(asked):
    fields = {
        "sound": Field("waveform", (9, 1), rate=8000),
        "label": Field("label", (), "int32", 2, ("yes", "no")),
        "text": Field("text", (), "str"),
    }
    x = {"sound": np.zeros((2, 9, 1)), "label": np.array([1, 0]), "text": np.array(["a", "b"])}
    assert list(Dataset().show(x, fields)) == ["samples.png"]
    given = asked["samples"]
    assert (given["rate"], given["names"], given["labels"].tolist()) == (8000, ("yes", "no"), [1, 0])
    with pytest.raises(ValueError, match="a name in x = 'y'; allowed are names of fields: sound, label, text"):
        Dataset().show({"y": np.zeros(2)}, fields)


def test_the_first_digits_are_a_picture():
    examples = Digits().open()
    x = {name: column[:4] for name, column in examples.source.columns.items()}
    files = Digits().show(x, examples.fields)
    with Image.open(io.BytesIO(files["samples.png"])) as picture:
        assert picture.width > 16


@pytest.mark.parametrize("component", [Digits("test"), Toy("moons", 30, 4)])
def test_components_survive_json(component):
    again = from_json(Dataset, to_json(component), "data")
    assert again == component
    assert isinstance(again.open(), Examples)


def test_every_kind_documents_every_setting():
    kinds = kinds_of(Dataset)
    assert {"Digits", "Toy", "Tfds", "Folder", "Arrays"} <= set(kinds)
    for kind in kinds.values():
        for setting in settings_of(kind):
            assert f"\n  {setting}: " in inspect.cleandoc(kind.__doc__), f"{kind.__name__}.{setting}"
