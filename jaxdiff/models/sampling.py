"""How samples are drawn: the solver, the time grid, its steps and the guidance."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Annotated, Any

from jaxdiff import grids, solvers
from jaxdiff.checks import integer
from jaxdiff.components import Choices, at, choose, function_of
from jaxdiff.guidance import ClassifierFree, Guidance
from jaxdiff.processes import Process, Times
from jaxdiff.solvers import SolverChoice, Tableau

GridChoice = Annotated[Callable[..., Times], Choices("jaxdiff.grids", ("process", "steps", "denoiser", "x"))]


@dataclasses.dataclass(frozen=True)
class Sampling:
    """The solver, the time grid and the guidance of samples."""

    solver: SolverChoice = choose(solvers.ddim)
    """The solver of `jaxdiff.solvers`, with its options."""
    grid: GridChoice = choose(grids.uniform_time)
    """The time grid of `jaxdiff.grids`, with its options."""
    steps: int = 50
    """The number of steps of the time grid."""
    guidance: Guidance = ClassifierFree()
    """The rule that leads samples to the conditions that are asked for."""

    def __post_init__(self) -> None:
        integer("steps", self.steps, most=100_000)

    @property
    def grid_arguments(self) -> tuple[str, ...]:
        """The names of the arguments of the grid."""
        return tuple(inspect.signature(function_of(self.grid)).parameters)

    def times(self, process: Process, denoiser: Any = None, x: Any = None) -> Times:
        """The time grid of these settings. The arguments and errors are those of `tableau`."""
        with at("sample.grid"):
            return self.grid(process=process, steps=self.steps, denoiser=denoiser, x=x)

    def tableau(self, process: Process, denoiser: Any = None, x: Any = None) -> Tableau:
        """The tableau of these settings for a process.

        Args:
          process: the process.
          denoiser: the denoiser that is sampled, for grids that depend on it.
          x: noise at `t_max`, for grids that depend on it.

        Raises:
          ValueError: the process does not allow the grid or the solver, or the grid needs a denoiser.
        """
        times = self.times(process, denoiser, x)
        with at("sample.solver"):
            return self.solver(process=process, times=times)
