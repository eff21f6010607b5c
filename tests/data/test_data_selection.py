import pickle

import numpy as np
import pytest

from jaxdiff.data import Entry, Examples, Field, Tfds, from_arrays, held_out, in_memory, select
from jaxdiff.data.sources import ArraySource

LENGTH = Field("values", (), "int32")


def captioned():
    return from_arrays(x=np.arange(8.0).reshape(4, 2), label=[0, 1, 0, 1], caption=["", "a", "bb", "ccc"])


ENTRIES = {
    "length": Entry("caption", len, LENGTH),
    "y": Entry("x", None, LENGTH),
    "size": Entry("caption", len, LENGTH),
}


@pytest.mark.parametrize("memory", [True, False])
def test_an_entry_is_a_field_or_its_reading(memory):
    examples = captioned()
    source = examples.source if memory else list(examples.source)
    selected = select(Examples(source, examples.fields), ENTRIES)
    # An entry that is not read has the field of the record.
    assert selected.fields == {"length": LENGTH, "y": examples.fields["x"], "size": LENGTH}
    assert isinstance(selected.source, ArraySource) == memory
    columns = in_memory(selected).source.columns
    assert list(columns) == list(ENTRIES)
    assert columns["length"].tolist() == columns["size"].tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(columns["y"], examples.source.columns["x"])
    if memory:
        assert columns["y"] is examples.source.columns["x"]


def test_a_selection_from_disk_reads_records_and_can_be_pickled(swatches_dir):
    examples = Tfds("swatches/square", data_dir=swatches_dir).open()
    mean = Field("values", (3,))
    selected = select(examples, {"mean": Entry("picture", mean_colour, mean), "label": Entry("label", None, LENGTH)})
    selected = pickle.loads(pickle.dumps(selected))
    for i in (0, 7):
        expected = np.random.default_rng(i).integers(0, 256, (6, 6, 3), np.uint8).mean((0, 1))
        np.testing.assert_allclose(selected.source[i]["mean"], expected)
    np.testing.assert_allclose(in_memory(selected).source.columns["mean"][7], expected, rtol=1e-6)


def mean_colour(picture):
    return picture.mean((0, 1))


def refuse(text):
    raise KeyError(f"no {text}\nat all")


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({}, "entries = {}; allowed are at least one entry"),
        ({"x": Entry("captoin", len, LENGTH)}, "field of the entry 'x' = 'captoin'; allowed .*did you mean 'caption'"),
        ({"x": Entry("caption", refuse, LENGTH)}, "field 'caption' of record 0 cannot be read as 'x': .*no"),
        ({"x": Entry("label", None, LENGTH), "y": Entry("x", sum, Field("values", (1,)))}, "shape of 'y' of record 0"),
    ],
)
def test_select_refuses(entries, message):
    with pytest.raises(ValueError, match=message) as caught:
        select(captioned(), entries)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("memory", [True, False])
def test_held_out_examples_are_never_in_training(memory):
    examples = from_arrays(label=np.arange(50), x=np.arange(50.0)[:, None])
    given = examples if memory else Examples(list(examples.source), examples.fields)
    training, validation = (in_memory(one) for one in held_out(given, 12))
    kept, out = training.source.columns["label"], validation.source.columns["label"]
    assert (len(kept), len(out)) == (38, 12)
    assert sorted([*kept, *out]) == list(range(50))
    assert kept.tolist() == sorted(kept)
    # The part is not the first or the last examples, is the same again, and grows.
    assert out.min() + 38 - out.max() + 12 >= 12
    assert not set(out) <= set(range(30))
    np.testing.assert_array_equal(held_out(examples, 12)[1].source.columns["label"], out)
    assert set(out) < set(held_out(examples, 20)[1].source.columns["label"].tolist())
    np.testing.assert_array_equal(validation.source.columns["x"][:, 0], out)


@pytest.mark.parametrize("count", [0, 4, 1.0])
def test_held_out_needs_examples_on_both_sides(count):
    with pytest.raises(ValueError, match=rf"count = {count}; allowed are integers from 1 to 3"):
        held_out(captioned(), count)


def test_identities_of_parts_do_not_depend_on_their_place(swatches_dir):
    disk = Tfds("swatches/square", data_dir=swatches_dir).open()
    entries = {"label": Entry("label", None, disk.fields["label"])}

    def identities(examples):
        training, validation = held_out(examples, 10)
        return [one.identity() for one in (examples, training, validation, select(examples, entries))]

    found = identities(disk)
    assert found == identities(in_memory(disk))
    assert len(set(found)) == 4
    assert in_memory(held_out(disk, 10)[0]).identity() == found[1]
