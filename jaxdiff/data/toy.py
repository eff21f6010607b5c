"""Toy distributions in the plane, for experiments that take seconds."""

import numpy as np

from jaxdiff.checks import integer, one_of
from jaxdiff.data.sources import Examples, from_arrays

TOYS = ("checkerboard", "gaussians", "moons", "spirals")


def toy2d(name: str = "checkerboard", n: int = 10_000, seed: int = 0) -> Examples:
    """Draws `n` points of a toy distribution, float32 `[n, 2]`, within about [-1, 1] on either axis.

    - "checkerboard": uniform on 8 of the 16 squares of a 4 by 4 board on [-1, 1]^2; unlabelled.
    - "gaussians": 8 isotropic Gaussians of standard deviation 0.05 on a circle of radius 0.8; the label is the mode.
    - "moons": two interleaved half circles with noise of standard deviation 0.03; the label is the moon.
    - "spirals": two arms of one and a half turns with noise of standard deviation 0.015; the label is the arm.

    Labelled points come in random order. The sizes of the classes differ by at most one.

    Raises:
      ValueError: unknown `name`, `n` below 1 or `seed` below 0.
    """
    one_of("name", name, TOYS)
    integer("n", n)
    integer("seed", seed, least=0)
    rng = np.random.default_rng(seed)

    if name == "checkerboard":
        column = rng.integers(4, size=n)
        row = 2 * rng.integers(2, size=n) + column % 2
        return from_arrays((np.stack([column, row], -1) + rng.random((n, 2))) / 2 - 1)

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
    return from_arrays(points + noise * rng.standard_normal((n, 2)), labels, [f"{name} {i}" for i in range(classes)])
