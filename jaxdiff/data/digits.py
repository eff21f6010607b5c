"""The digits: 1,797 real handwritten digits of 8x8 pixels that come with scikit-learn."""

import numpy as np

from jaxdiff.checks import one_of
from jaxdiff.data.sources import Examples, from_arrays

TEST_EVERY = 5


def open_digits(split: str = "train") -> Examples:
    """Opens scikit-learn's handwritten digits, uint8 images `[8, 8, 1]` with labels 0 to 9.

    The images are the test part of the UCI "Optical Recognition of Handwritten Digits" set (Alpaydin and Kaynak, 1998).
    Each pixel has one of 17 grey levels: the number of set pixels in a 4x4 block of a scanned 32x32 bitmap. The levels
    0 to 16 are scaled to 0 to 255 and rounded.

    Args:
      split: "test" holds every fifth image of scikit-learn's order, "train" holds the others in that order, and
        "train+test" is "train" followed by "test".

    Raises:
      ValueError: `split` is none of the three.
    """
    one_of("split", split, ("train", "test", "train+test"))
    from sklearn.datasets import load_digits  # slow to import, and needed for this set only

    digits = load_digits()
    is_test = np.arange(len(digits.target)) % TEST_EVERY == TEST_EVERY - 1
    parts = {"train": np.flatnonzero(~is_test), "test": np.flatnonzero(is_test)}
    order = np.concatenate([parts[part] for part in split.split("+")])
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    return from_arrays(pixels[order], digits.target[order], [str(digit) for digit in range(10)])
