"""Training steps under `jax.pmap`."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Int, PyTree

from jaxdiff.distributed.mesh import check_batch, make_mesh
from jaxdiff.objectives.objective import Function
from jaxdiff.training.state import State
from jaxdiff.training.step import repeated


class Mapped:
    """The strategy of `jax.pmap`: every device has the whole state and a part of the batch.

    Gradients are averaged over the devices. The methods are described in `strategy.Strategy`.
    """

    def __init__(self) -> None:
        self.mesh = make_mesh()
        self._whole = NamedSharding(self.mesh, PartitionSpec())
        # Made once, and with the axis name of the step, so that nothing is compiled or copied again.
        self._spread = jax.pmap(lambda leaf: leaf, axis_name="data")
        self._copied = jax.pmap(lambda _, whole: whole, axis_name="data", in_axes=(0, None))
        # The indices of this process's devices among all devices.
        each = np.arange(len(self.mesh.local_devices))
        self._places = np.asarray(jax.pmap(lambda _: jax.lax.axis_index("data"), axis_name="data")(each))

    def reduce(self, tree: PyTree) -> PyTree:
        return jax.lax.pmean(tree, "data")

    def places(self, count: int) -> tuple[Int[Array, " batch"], int]:
        return jax.lax.axis_index("data") * count + jnp.arange(count), jax.lax.axis_size("data") * count

    def prepare(self, objective: Function, shapes: State) -> Function:
        return objective

    def compile(self, step: Callable[..., Any], shapes: State, steps_per_call: int) -> Callable[..., Any]:
        step = step if steps_per_call == 1 else repeated(step)
        return jax.pmap(step, axis_name="data", donate_argnums=0, out_axes=(0, None))

    def canonical_shapes(self, shapes: State) -> State:
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=self._whole), shapes)

    def to_canonical(self, state: State) -> State:
        return jax.tree.map(lambda leaf: self._everywhere(leaf.addressable_data(0)[0]), state)

    def _everywhere(self, leaf: Array) -> Array:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            data = self._everywhere(jax.random.key_data(leaf))
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
        return multihost_utils.host_local_array_to_global_array(leaf, self.mesh, PartitionSpec())

    def from_canonical(self, state: State) -> State:
        return self.place_whole(jax.tree.map(lambda leaf: leaf.addressable_data(0), state))

    def rows(self, batch_size: int) -> Int[np.ndarray, " rows"]:
        check_batch(batch_size, self.mesh)
        return np.concatenate(
            [np.split(np.arange(batch_size), self.mesh.size)[place] for place in np.sort(self._places)]
        )

    def place(self, batch: PyTree, stacked: bool = False) -> PyTree:
        order = np.argsort(np.argsort(self._places))

        def cut(leaf: np.ndarray) -> np.ndarray:
            return np.stack(np.split(leaf, len(order), axis=int(stacked)))[order]

        return self._spread(jax.tree.map(cut, batch))

    def place_whole(self, arrays: PyTree) -> PyTree:
        if not jax.tree.leaves(arrays):  # of several processes, JAX's pmap fails on a result without arrays
            return arrays
        return self._copied(np.arange(len(self._places)), arrays)

    def place_frozen(self, frozen: PyTree) -> PyTree:
        return self.place_whole(frozen)
