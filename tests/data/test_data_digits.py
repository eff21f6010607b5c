import numpy as np
import pytest
from sklearn.datasets import load_digits

from jaxdiff.data import Digits, Field

REAL = load_digits()


def test_splits_hold_scikit_learns_digits_exactly():
    is_test = np.arange(1797) % 5 == 4
    train, test = np.flatnonzero(~is_test), np.flatnonzero(is_test)
    for split, rows in {"train": train, "test": test, "train+test": np.concatenate([train, test])}.items():
        examples = Digits(split).open()
        assert len(examples) == len(rows)
        assert examples.fields == {
            "image": Field("picture", (8, 8, 1), "uint8"),
            "label": Field("label", (), "int32", 10, tuple("0123456789")),
        }
        pixels = examples.source.columns["image"][..., 0]
        assert pixels.dtype == np.uint8
        # The nearest of the 17 levels to a byte is the level that it came from.
        np.testing.assert_array_equal(np.rint(pixels * (16 / 255)), REAL.images[rows])
        np.testing.assert_array_equal(examples.source.columns["label"], REAL.target[rows])
    # One byte for each level, over the whole range.
    assert np.unique(Digits("train+test").open().source.columns["image"]).tolist() == [
        round(255 * level / 16) for level in range(17)
    ]


def test_other_splits_are_refused():
    with pytest.raises(ValueError, match=r"split = 'tran'; allowed are 'train', 'test', .*; did you mean 'train'"):
        Digits("tran")
