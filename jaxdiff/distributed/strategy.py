"""The protocol of a strategy, and the choice of one by name."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Int, PyTree

from jaxdiff.distributed.mapped import Mapped
from jaxdiff.distributed.mesh import make_mesh
from jaxdiff.distributed.sharded import Sharded
from jaxdiff.objectives.objective import Function
from jaxdiff.training.state import State
from jaxdiff.training.step import Places


class Strategy(Protocol):
    """How a run uses its devices.

    Attributes:
      mesh: its devices, with the axes `data` and `fsdp`.
      places: an argument of `training.step.make_step`.
    """

    mesh: Mesh

    @property
    def places(self) -> Places | None: ...

    def reduce(self, tree: PyTree) -> PyTree:
        """Averages gradients and metrics over the devices. An argument of `training.step.make_step`."""
        ...

    def prepare(self, objective: Function, shapes: State) -> Function:
        """The objective in the form that the step calls."""
        ...

    def compile(self, step: Callable[..., Any], shapes: State, steps_per_call: int) -> Callable[..., Any]:
        """The step `(state, batch, *rest) -> (state, metrics)` on the devices. The state is donated."""
        ...

    def canonical_shapes(self, shapes: State) -> State:
        """The shapes and shardings of the canonical state."""
        ...

    def to_canonical(self, state: State) -> State:
        """The canonical state, for checkpoints and sampling: each array once, whatever the devices."""
        ...

    def from_canonical(self, state: State) -> State:
        """The state in the form that the compiled step takes."""
        ...

    def rows(self, batch_size: int) -> Int[np.ndarray, " rows"]:
        """The rows of a batch, ascending, that this process reads.

        Raises:
          ValueError: `batch_size` is not a multiple of the number of devices.
        """
        ...

    def place(self, batch: PyTree, stacked: bool = False) -> PyTree:
        """Puts this process's rows of a batch on its devices. A `stacked` batch has an axis of steps first."""
        ...

    def place_whole(self, arrays: PyTree) -> PyTree:
        """Puts whole arrays on every device, for a further argument of the compiled step."""
        ...

    def place_frozen(self, frozen: PyTree) -> PyTree:
        """Puts frozen models on the devices, as parameters are, for a further argument of the compiled step."""
        ...


def make_strategy(strategy: str, fsdp: int = 1, overrides: Mapping[str, str] | None = None) -> Strategy:
    """The strategy of the given name over the devices of this job.

    Args:
      strategy: `auto` or `jit` (`Sharded`), `single` (`Sharded` on the first device), or `pmap` (`Mapped`).
      fsdp: the number of devices that share one copy of the state, under `jit`.
      overrides: as in `shardings.state_shardings`.

    Raises:
      ValueError: `fsdp` does not divide the number of devices, or `strategy` is `single` with several processes.
    """
    if strategy == "single" and jax.process_count() > 1:
        raise ValueError(f"parallel.strategy = 'single'; allowed with {jax.process_count()} processes are jit and pmap")
    if strategy == "pmap":
        return Mapped()
    return Sharded(make_mesh(jax.devices()[:1] if strategy == "single" else None, fsdp), overrides)
