"""Coordinates in which the probability-flow ODE is `dz/dr = F`, with `F = p x0 + q eps` for constant `(p, q)`.

- "sigma": `z = x / alpha`, `r = sigma / alpha`, `F = eps`. Karras et al. 2022 (arXiv 2206.00364), equation 1.
- "flow": `z = x / (alpha + sigma)`, `r = sigma / (alpha + sigma)`, `F = eps - x0`. Rectified flow; finite where alpha
  is 0.
"""

from typing import Any, Literal, NamedTuple

import numpy as np

from jaxdiff.processes import Process, Times

Name = Literal["sigma", "flow"]


class Coordinate(NamedTuple):
    """A coordinate on a grid: `z = x / scale`, moving in r with velocity `p x0 + q eps`."""

    scale: Any
    target: tuple[float, float]


def coordinate(process: Process, times: Times, name: Name) -> Coordinate:
    """The coordinate `name` at `times` (any shape).

    Raises:
      ValueError: an unknown name, or a point where the coordinate is infinite.
    """
    alpha, sigma = process.alpha(times), process.sigma(times)
    if name == "sigma":
        if isinstance(alpha, np.ndarray) and alpha.min() <= 0:
            raise ValueError(
                "coordinate = 'sigma' is infinite where alpha = 0, at the start of this grid; allowed there is 'flow'"
            )
        return Coordinate(alpha, (0.0, 1.0))
    if name == "flow":
        return Coordinate(alpha + sigma, (-1.0, 1.0))
    raise ValueError(f"coordinate = {name!r}; allowed are 'sigma' and 'flow'")
