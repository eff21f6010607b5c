"""Tiny pictures of two classes: the left or the right half is bright."""

import dataclasses

import numpy as np

from jaxdiff.data import Dataset, Examples, from_arrays


@dataclasses.dataclass(frozen=True)
class Blobs(Dataset):
    """Pictures of 8x8 pixels with a label and a caption.

    Attributes:
      n: the number of pictures.
    """

    n: int = 256

    def open(self) -> Examples:
        rng = np.random.default_rng(0)
        label = rng.integers(0, 2, self.n)
        image = 60 + 20 * rng.random((self.n, 8, 8, 1))
        for i, half in enumerate(label):
            image[i, :, 4 * half : 4 * half + 4] += 120
        caption = [f"bright {('left', 'right')[half]} half" for half in label]
        return from_arrays(
            {"image": image.astype(np.uint8), "label": label, "caption": caption}, names={"label": ("left", "right")}
        )
