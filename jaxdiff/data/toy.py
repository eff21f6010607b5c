"""Toy distributions in the plane, for experiments that take seconds."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from jaxdiff.checks import integer, one_of
from jaxdiff.data.arrays import from_arrays
from jaxdiff.data.dataset import Dataset
from jaxdiff.data.sources import Examples

Name = Literal["checkerboard", "gaussians", "moons", "spirals"]
TOYS: tuple[str, ...] = get_args(Name)


@dataclass(frozen=True)
class Toy(Dataset):
    """Points of a toy distribution: `x`, float32 `[2]`, within about [-1, 1] on either axis, and `label` if it has any.

    - "checkerboard": uniform on 8 of the 16 squares of a 4 by 4 board on [-1, 1]^2; without labels.
    - "gaussians": 8 isotropic Gaussians of standard deviation 0.05 on a circle of radius 0.8; the label is the mode.
    - "moons": two interleaved half circles with noise of standard deviation 0.03; the label is the moon.
    - "spirals": two arms of one and a half turns with noise of standard deviation 0.015; the label is the arm.

    Labelled points come in random order. The sizes of the classes differ by at most one.

    Attributes:
      name: the distribution.
      n: the number of points.
      seed: the seed of the generator, at least 0.
    """

    name: Name = "checkerboard"
    n: int = 10_000
    seed: int = 0

    def __post_init__(self) -> None:
        one_of("name", self.name, TOYS)
        integer("n", self.n)
        integer("seed", self.seed, least=0)

    def open(self) -> Examples:
        name, n = self.name, self.n
        rng = np.random.default_rng(self.seed)
        if name == "checkerboard":
            column = rng.integers(4, size=n)
            row = 2 * rng.integers(2, size=n) + column % 2
            return from_arrays(x=(np.stack([column, row], -1) + rng.random((n, 2))) / 2 - 1)

        classes = 8 if name == "gaussians" else 2
        labels = rng.permutation(np.arange(n) % classes)
        if name == "gaussians":
            angle, radius, noise = 2 * np.pi * labels / classes, 0.8, 0.05
            points = radius * np.stack([np.cos(angle), np.sin(angle)], -1)
        elif name == "moons":
            angle, noise = np.pi * rng.random(n), 0.03
            upper = np.stack([np.cos(angle), np.sin(angle)], -1)
            # The lower moon is the upper moon turned about (1/2, 1/4), which becomes the origin.
            points = (upper - [0.5, 0.25]) * np.where(labels == 0, 1, -1)[:, None] / 1.6
        else:
            # With the square root the density is uniform per area rather than per angle.
            turn, noise = np.sqrt(rng.random(n)), 0.015
            angle = 3 * np.pi * turn + np.pi * labels
            points = 0.95 * turn[:, None] * np.stack([np.cos(angle), np.sin(angle)], -1)
        names = [f"{name} {i}" for i in range(classes)]
        return from_arrays(x=points + noise * rng.standard_normal((n, 2)), label=labels, names={"label": names})
