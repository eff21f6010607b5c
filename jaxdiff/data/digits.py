"""The digits: 1,797 real handwritten digits of 8x8 pixels that come with scikit-learn."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from jaxdiff.checks import one_of
from jaxdiff.data.arrays import from_arrays
from jaxdiff.data.dataset import Dataset
from jaxdiff.data.sources import Examples
from jaxdiff.extras import needed

TEST_EVERY = 5


@dataclass(frozen=True)
class Digits(Dataset):
    """scikit-learn's handwritten digits: `image`, uint8 `[8, 8, 1]`, and `label`, 0 to 9.

    The images are the test part of the UCI "Optical Recognition of Handwritten Digits" set (Alpaydin and Kaynak, 1998).
    Each pixel has one of 17 grey levels: the number of set pixels in a 4x4 block of a scanned 32x32 bitmap. The levels
    0 to 16 are scaled to 0 to 255 and rounded.

    Attributes:
      split: "test" holds every fifth image of scikit-learn's order, "train" holds the others in that order, and
        "train+test" is "train" followed by "test".
    """

    split: Literal["train", "test", "train+test"] = "train"

    def __post_init__(self) -> None:
        one_of("split", self.split, ("train", "test", "train+test"))

    def open(self) -> Examples:
        with needed("jaxdiff.data.Digits"):
            from sklearn.datasets import load_digits  # slow to import, and needed for this set only

        digits = load_digits()
        is_test = np.arange(len(digits.target)) % TEST_EVERY == TEST_EVERY - 1
        parts = {"train": np.flatnonzero(~is_test), "test": np.flatnonzero(is_test)}
        order = np.concatenate([parts[part] for part in self.split.split("+")])
        pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None]
        names = [str(digit) for digit in range(10)]
        return from_arrays(image=pixels[order], label=digits.target[order], names={"label": names})
