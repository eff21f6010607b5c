"""What a strategy is to a trainer, and the choice of one."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Int, PyTree

from jaxdiff.distributed.mapped import Mapped
from jaxdiff.distributed.mesh import make_mesh
from jaxdiff.distributed.sharded import Sharded
from jaxdiff.objectives.denoising import Objective
from jaxdiff.training.state import State
from jaxdiff.training.step import Places


class Strategy(Protocol):
    """How a run uses its devices.

    Attributes:
      mesh: its devices, with the axes `data` and `fsdp`.
      places: argument of `make_step`.
    """

    mesh: Mesh

    @property
    def places(self) -> Places | None: ...

    def reduce(self, tree: PyTree) -> PyTree:
        """Argument of `make_step`."""
        ...

    def prepare(self, objective: Objective, shapes: State) -> Objective:
        """The objective as the step is to call it."""
        ...

    def compile(self, step: Callable[..., Any], shapes: State, steps_per_call: int) -> Callable[..., Any]:
        """The step `(state, batch, *rest) -> (state, metrics)` on the devices; the state is donated."""
        ...

    def canonical_shapes(self, shapes: State) -> State:
        """Shapes and shardings of the state as checkpoints hold it."""
        ...

    def to_canonical(self, state: State) -> State:
        """The state as checkpoints hold it and as sampling wants it: each array once, whatever the devices."""
        ...

    def from_canonical(self, state: State) -> State:
        """The state as the compiled step wants it."""
        ...

    def rows(self, batch_size: int) -> Int[np.ndarray, " rows"]:
        """The places in a batch, ascending, of the examples that this process reads.

        Raises:
          ValueError: the devices do not divide the batch.
        """
        ...

    def place(self, batch: PyTree, stacked: bool = False) -> PyTree:
        """This process's rows of a batch, on its devices; `stacked` batches have an axis of steps first."""
        ...

    def place_whole(self, arrays: PyTree) -> PyTree:
        """Arrays that every device needs all of, as a further argument of the compiled step."""
        ...


def make_strategy(strategy: str, fsdp: int = 1, overrides: Mapping[str, str] | None = None) -> Strategy:
    """The strategy of that name (`auto`, `single`, `jit` or `pmap`) over this job's devices.

    Raises:
      ValueError: a mesh that the devices do not allow; one device for several processes.
    """
    if strategy == "single" and jax.process_count() > 1:
        raise ValueError(f"parallel.strategy = 'single'; allowed with {jax.process_count()} processes are jit and pmap")
    if strategy == "pmap":
        return Mapped()
    return Sharded(make_mesh(jax.devices()[:1] if strategy == "single" else None, fsdp), overrides)
