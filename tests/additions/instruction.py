"""Editing by instruction: a picture as planes, a class as the instruction, and a scale of guidance for each."""

import dataclasses

import numpy as np

from additions import small
from jaxdiff.conditions import Label, Planes
from jaxdiff.data import Dataset, Examples, from_arrays
from jaxdiff.guidance import InstructPix2Pix
from jaxdiff.models import Diffusion
from jaxdiff.runs.config import Config


@dataclasses.dataclass(frozen=True)
class Edits(Dataset):
    """Grey pictures of 8x8 pixels, an instruction, and the pictures after it: the left or the right half is bright.

    Attributes:
      n: the number of pictures.
    """

    n: int = 256

    def open(self) -> Examples:
        rng = np.random.default_rng(0)
        label = rng.integers(0, 2, self.n)
        before = 60 + 20 * rng.random((self.n, 8, 8, 1))
        image = before.copy()
        for i, half in enumerate(label):
            image[i, :, 4 * half : 4 * half + 4] += 120
        pictures = {"image": image.astype(np.uint8), "before": before.astype(np.uint8)}
        return from_arrays({**pictures, "label": label}, names={"label": ("left", "right")})


CONFIG = Config(
    data=Edits(),
    model=Diffusion(network=small.NETWORK, conditions={"picture": Planes("before", 0.1), "label": Label()}),
    optimizer=small.OPTIMIZER,
    train=small.TRAIN,
    sample=dataclasses.replace(small.SAMPLE, guidance=InstructPix2Pix(instruction="label", scale=2.0)),
)
ASKED = {"picture": np.zeros((8, 8, 1), np.float32), "label": "right"}
