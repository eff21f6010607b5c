"""Training steps under `jax.jit`, over a mesh of devices."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int, PyTree

from jaxdiff.distributed.mesh import place_rows, process_rows
from jaxdiff.distributed.shardings import state_shardings
from jaxdiff.objectives.denoising import Objective
from jaxdiff.training.state import State
from jaxdiff.training.step import Places, repeated


class Sharded:
    """The strategy of `jax.jit`: the batch is sharded over all devices, and the state over the axis `fsdp`.

    The state is parameters, optimiser state and averages. Each step gathers the parameters where it uses them, and of
    the gradients each device keeps the shard that it updates (ZeRO: Rajbhandari et al. 2020, arXiv 1910.02054). The
    methods are described in `strategy.Strategy`.

    Args:
      mesh: the devices, with the axes `data` and `fsdp`.
      overrides: leaves that are sharded in another way, as in `shardings.state_shardings`.
    """

    places: Places | None = None

    def __init__(self, mesh: Mesh, overrides: Mapping[str, str] | None = None) -> None:
        self.mesh, self._overrides = mesh, overrides

    def reduce(self, tree: PyTree) -> PyTree:
        return tree

    def shardings(self, shapes: State) -> State:
        """The shardings of the state's leaves."""
        return state_shardings(self.mesh, shapes, self._overrides)

    def prepare(self, objective: Objective, shapes: State) -> Objective:
        if self.mesh.shape["fsdp"] == 1:
            return objective
        held = self.shardings(shapes).params
        return lambda params, key, batch: objective(jax.tree.map(gathered, params, held), key, batch)

    def compile(self, step: Callable[..., Any], shapes: State, steps_per_call: int) -> Callable[..., Any]:
        held = self.shardings(shapes)
        step = step if steps_per_call == 1 else repeated(step)
        return jax.jit(step, donate_argnums=0, out_shardings=(held, NamedSharding(self.mesh, PartitionSpec())))

    def canonical_shapes(self, shapes: State) -> State:
        return jax.tree.map(
            lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
            shapes,
            self.shardings(shapes),
        )

    def to_canonical(self, state: State) -> State:
        return state

    def from_canonical(self, state: State) -> State:
        return state

    def rows(self, batch_size: int) -> Int[np.ndarray, " rows"]:
        return process_rows(self.mesh, batch_size)

    def place(self, batch: PyTree, stacked: bool = False) -> PyTree:
        return place_rows(self.mesh, batch, stacked)

    def place_whole(self, arrays: PyTree) -> PyTree:
        whole = NamedSharding(self.mesh, PartitionSpec())
        return jax.tree.map(
            lambda leaf: jax.make_array_from_callback(leaf.shape, whole, lambda index: leaf[index]), arrays
        )


def gathered(leaf: Array, held: NamedSharding) -> Array:
    """Gathers a sharded leaf onto every device. Its cotangent is sharded as the leaf was."""

    @jax.custom_vjp
    def gather(leaf: Array) -> Array:
        return jax.lax.with_sharding_constraint(leaf, NamedSharding(held.mesh, PartitionSpec()))

    gather.defvjp(
        lambda leaf: (gather(leaf), None), lambda _, cotangent: (jax.lax.with_sharding_constraint(cotangent, held),)
    )
    return gather(leaf)
