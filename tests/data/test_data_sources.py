import numpy as np
import pytest

from jaxdiff.data import Examples, Field, Tfds, from_arrays, in_memory, training_batches
from jaxdiff.data.checksums import MOST, checksum, spaced


class Halves:
    """A user's source of numbers and words, whose shape is wrong from record 600 on."""

    def __init__(self, n, wrong=2):
        self.n, self.wrong = n, wrong

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        return {"x": np.full(2 if index < 600 else self.wrong, index + 0.5), "word": str(index), "label": index}


FIELDS = {"x": Field("values", (2,)), "word": Field("text", (), "str"), "label": Field("label", (), "int32", 1000)}


def test_in_memory_reads_any_source():
    memory = in_memory(Examples(Halves(700), FIELDS))
    columns = memory.source.columns
    assert (columns["x"].dtype, columns["label"].dtype) == (np.float32, np.int32)
    np.testing.assert_array_equal(columns["x"][:, 1], np.arange(700) + 0.5)
    assert columns["word"] == tuple(map(str, range(700)))
    assert memory.fields == FIELDS
    assert in_memory(memory) is memory


def test_records_that_do_not_fit_their_fields_are_named():
    with pytest.raises(ValueError, match=r"shape of 'x' of record 600 = \(3,\); allowed are \(2,\)"):
        in_memory(Examples(Halves(700, wrong=3), FIELDS))
    with pytest.raises(ValueError, match="type of 'x' of record 0 = float64; allowed are int32"):
        in_memory(Examples(Halves(5), {"x": Field("values", (2,), "int32")}))
    with pytest.raises(ValueError, match="entries of record 0 = 'x, word, label'; allowed are records with 'y'"):
        in_memory(Examples(Halves(5), {"y": Field("values", (2,))}))


class Labels(list):
    """A user's source of labels."""

    def __getitem__(self, index):
        return {"label": super().__getitem__(index)}


@pytest.mark.parametrize("wrong", [3, -1, 2**32 + 1])
@pytest.mark.parametrize("read", [in_memory, lambda examples: next(training_batches(examples, 4, seed=0))])
def test_a_label_that_is_no_class_is_named(read, wrong):
    """2**32 + 1 would be the label 1 of type int32."""
    examples = Examples(Labels([0, 2, wrong, 1]), {"label": Field("label", (), "int32", 3)})
    with pytest.raises(ValueError, match=rf"'label' of record 2 = {wrong}; allowed are integers from 0 to 2"):
        read(examples)


def test_in_memory_changes_no_record(swatches_dir):
    examples = Tfds("swatches/square", data_dir=swatches_dir).open()
    memory = in_memory(examples)
    assert memory.fields == examples.fields
    assert memory.source.columns["picture"].flags.c_contiguous
    for i in range(len(examples)):
        np.testing.assert_array_equal(memory.source[i]["picture"], examples.source[i]["picture"])
        assert memory.source[i]["label"] == examples.source[i]["label"]


def arrays(**changes):
    given = {"x": np.arange(6.0).reshape(3, 2), "label": [0, 1, 1], "caption": ["a", "bc", "d"]}
    return from_arrays({**given, **changes})


def test_the_identity_of_arrays_depends_on_all_that_they_hold():
    same = arrays().identity()
    counted = [from_arrays(label=[0, 1], classes={"label": n}).identity() for n in (2, np.int64(2))]
    assert counted[0] == counted[1]
    assert (len(same), int(same, 16) >= 0) == (32, True)
    assert arrays().identity() == same
    changed = [
        arrays(x=np.arange(6.0).reshape(3, 2) + 1e-6),
        arrays(x=np.arange(6.0).reshape(3, 1, 2)),
        arrays(label=[0, 1, 0]),
        arrays(label=[0, 1, 2]),
        arrays(caption=["ab", "c", "d"]),
        from_arrays(arrays().source.columns, names={"label": "ab"}),
        from_arrays({"y" if name == "x" else name: column for name, column in arrays().source.columns.items()}),
    ]
    assert len({same, *(examples.identity() for examples in changed)}) == 1 + len(changed)


def test_the_identity_of_a_users_source_is_that_of_its_records():
    one = Examples(Halves(5), FIELDS)
    assert one.identity() == Examples(Halves(5), FIELDS).identity() == in_memory(one).identity()
    assert len({one.identity(), Examples(Halves(6), FIELDS).identity(), Examples(Halves(5), {}).identity()}) == 3


def test_checksums_do_not_mix_their_parts():
    parts = [("ab", "c"), ("a", "bc"), ("abc",), (np.zeros(2),), (np.zeros(2, np.float32),), (np.zeros((1, 2)),)]
    assert len({checksum(*some) for some in parts}) == len(parts)


def test_spaced_places_are_different_and_reach_both_ends():
    for n in (0, 1, MOST, MOST + 1, 3 * MOST + 7):
        places = spaced(n)
        assert len(set(places)) == len(places) == min(n, MOST)
        if n:
            assert (places[0], places[-1]) == (0, n - 1)
            assert np.ptp(np.diff(places)) <= 1 if n > 1 else True
