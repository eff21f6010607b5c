"""Training steps under `jax.jit`, over a mesh of devices."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int, PyTree

from jaxdiff.distributed.mesh import place_rows, process_rows
from jaxdiff.distributed.shardings import state_shardings
from jaxdiff.objectives.objective import Context, Function, Loss
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

    def prepare(self, objective: Function, shapes: State) -> Function:
        if self.mesh.shape["fsdp"] == 1:
            return objective
        held, whole = self.shardings(shapes).params, NamedSharding(self.mesh, PartitionSpec())

        def with_whole(params: PyTree, key: Any, batch: PyTree, context: Context) -> Loss:
            # What the objective does not use is not gathered: the compiler removes it.
            frozen, averages, extra = jax.tree.map(
                lambda leaf: jax.lax.with_sharding_constraint(leaf, whole),
                (context.frozen, context.averages, context.extra),
            )
            context = context._replace(frozen=frozen, averages=averages, extra=extra)
            return objective(jax.tree.map(gathered, params, held), key, batch, context)

        return with_whole

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
        return jax.tree.map(lambda leaf: _placed(leaf, whole), arrays)

    def place_frozen(self, frozen: PyTree) -> PyTree:
        return jax.tree.map(_placed, frozen, state_shardings(self.mesh, frozen))


def _placed(leaf: Any, sharding: NamedSharding) -> Array:
    """A whole array of this process, as a global array."""
    whole = np.asarray(leaf)
    return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])


def gathered(leaf: Array, held: NamedSharding) -> Array:
    """Gathers a sharded leaf onto every device. Its cotangent is sharded as the leaf was."""

    @jax.custom_vjp
    def gather(leaf: Array) -> Array:
        return jax.lax.with_sharding_constraint(leaf, NamedSharding(held.mesh, PartitionSpec()))

    gather.defvjp(
        lambda leaf: (gather(leaf), None), lambda _, cotangent: (jax.lax.with_sharding_constraint(cotangent, held),)
    )
    return gather(leaf)
