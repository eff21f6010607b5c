"""Coordinates in which the probability-flow ODE is `dz/dr = F`, with `F = p x0 + q eps` for constant `(p, q)`.

- "sigma": `z = x / alpha`, `r = sigma / alpha`, `F = eps`. Karras et al. 2022 (arXiv 2206.00364), equation 1.
- "flow": `z = x / (alpha + sigma)`, `r = sigma / (alpha + sigma)`, `F = eps - x0`. This is rectified flow, and finite
  where alpha is 0.
- "auto": "flow" for the processes that lose all signal (`t_noise` is finite) or keep a trace of it, such as a cosine
  chain; "sigma" for all others.
"""

from typing import Any, Literal, NamedTuple, get_args

from jaxdiff import checks
from jaxdiff.grids.own import loses_signal
from jaxdiff.processes import Process, Times
from jaxdiff.solvers.tableau import check_signal

Name = Literal["auto", "sigma", "flow"]


class Coordinate(NamedTuple):
    """A coordinate on a grid: `z = x / scale` moves in r with the velocity `p x0 + q eps`, `target = (p, q)`."""

    scale: Any
    target: tuple[float, float]


def coordinate(process: Process, times: Times, name: Name) -> Coordinate:
    """The coordinate `name` on the grid `times`.

    Raises:
      ValueError: `name` is unknown, or the coordinate is infinite at the start of the grid.
    """
    checks.one_of("coordinate", name, get_args(Name))
    if name == "flow" or (name == "auto" and loses_signal(process)):
        return Coordinate(process.alpha(times) + process.sigma(times), (-1.0, 1.0))
    check_signal(process, times, "coordinate = 'flow'")
    return Coordinate(process.alpha(times), (0.0, 1.0))
