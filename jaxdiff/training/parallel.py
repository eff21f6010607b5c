"""Strategies: the one step, spread over the devices of one process or of many.

- `Sharded`: `jax.jit` over a mesh with the axes `data` and `fsdp`; the batch is spread over both, and the state over
  `fsdp`. A mesh of one device is the plain case.
- `Mapped`: `jax.pmap`, a copy of the state on every device.

Both make the same steps: what an example draws depends on its place in the batch only, wherever it lies.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import mesh_utils, multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int, PyTree

from jaxdiff import trees
from jaxdiff.objectives.denoising import Objective
from jaxdiff.training.state import State
from jaxdiff.training.step import Places, repeated

ROWS = PartitionSpec(("data", "fsdp"))

# Below this many elements a leaf is cheaper to keep whole than to gather.
_SMALL = 2048


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


def make_mesh(devices: Sequence[Any] | None = None, fsdp: int = 1) -> Mesh:
    """A mesh with the axes `data` and `fsdp`.

    Args:
      devices: those to use; None for all there are, of all processes.
      fsdp: devices that share one copy of the state.

    Raises:
      ValueError: `fsdp` does not divide the number of devices.
    """
    devices = list(jax.devices() if devices is None else devices)
    if fsdp < 1 or len(devices) % fsdp:
        raise ValueError(f"parallel.fsdp = {fsdp}; allowed are divisors of the {len(devices)} devices")
    # Neighbours in the network share a copy; on a torus that may be a part of one of its axes.
    shape = (len(devices) // fsdp, fsdp)
    grid = mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
    return Mesh(grid, ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)


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


def check_overrides(overrides: Mapping[str, str]) -> None:
    """Raises a ValueError unless `overrides` are patterns of names to `none` or the number of an axis."""
    for pattern, axis in overrides.items():
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"overrides = {dict(overrides)}; {pattern!r} is no pattern: {error}") from error
        if axis != "none" and not axis.isdecimal():
            raise ValueError(f"overrides = {dict(overrides)}; allowed are 'none' and the number of an axis")


def sharded_axis(shape: Sequence[int], devices: int) -> int | None:
    """The axis along which a leaf is spread over `devices`: its longest that they divide, the last of equal ones.

    None for a leaf that stays whole: it is small, or no axis fits.
    """
    fitting = [(length, axis) for axis, length in enumerate(shape) if length % devices == 0 and length >= devices]
    if devices == 1 or int(np.prod(shape)) < _SMALL or not fitting:
        return None
    return max(fitting)[1]


def state_shardings(mesh: Mesh, shapes: PyTree, overrides: Mapping[str, str] | None = None) -> PyTree:
    """A sharding over the axis `fsdp` for each leaf of any pytree: by `sharded_axis`, but for what is overridden.

    Args:
      shapes: arrays or `jax.ShapeDtypeStruct`s.
      overrides: patterns (`re.search`) of the leaves' names, such as `label_table` for
        `params.params.conditioning.label_table.embedding`, to the number of an axis, or `none`; the first that matches
        counts.

    Raises:
      ValueError: an override that matches no leaf, or names an axis that a leaf does not have or that the axis
        `fsdp` does not divide.
    """
    devices, unused = mesh.shape["fsdp"], set(overrides or ())

    def sharding(path: Sequence[Any], leaf: Any) -> NamedSharding:
        name, axis = trees.name_of(path), sharded_axis(leaf.shape, devices)
        for pattern, chosen in (overrides or {}).items():
            if re.search(pattern, name):
                unused.discard(pattern)
                axis = None if chosen == "none" else int(chosen)
                if axis is not None and (axis >= len(leaf.shape) or leaf.shape[axis] % devices):
                    raise ValueError(
                        f"parallel.overrides = {dict(overrides or {})}; {name} has shape {tuple(leaf.shape)}, "
                        f"whose axis {axis} cannot be spread over {devices} devices"
                    )
                break
        return NamedSharding(mesh, PartitionSpec(*[None] * axis, "fsdp") if axis is not None else PartitionSpec())

    found = jax.tree_util.tree_map_with_path(sharding, shapes)
    if unused:
        raise ValueError(f"parallel.overrides: no leaf is called like {', '.join(sorted(unused))}")
    return found


def process_rows(mesh: Mesh, batch_size: int) -> Int[np.ndarray, " rows"]:
    """The places in a batch, ascending, that lie on this process's devices.

    Raises:
      ValueError: the devices do not divide the batch.
    """
    check_batch(batch_size, mesh)
    held = NamedSharding(mesh, ROWS).addressable_devices_indices_map((batch_size,)).values()
    return np.unique(np.concatenate([np.arange(batch_size)[index] for index in held]))


def check_batch(batch_size: int, mesh: Mesh, accumulate: int = 1) -> None:
    """Raises a ValueError unless each device has as many examples in each of a batch's `accumulate` parts."""
    parts = mesh.size * accumulate
    if batch_size % parts:
        raise ValueError(
            f"train.batch_size = {batch_size}; allowed are multiples of {parts}, for {mesh.size} devices with "
            f"parallel.accumulate = {accumulate}"
        )


def place_rows(mesh: Mesh, batch: PyTree, stacked: bool = False) -> PyTree:
    """This process's rows of a batch as arrays spread over the devices of all processes."""

    def put(leaf: np.ndarray) -> Array:
        axis, local = int(stacked), np.asarray(leaf)
        size = local.shape[axis] * mesh.size // len(mesh.local_devices)
        rows = process_rows(mesh, size)
        shape = (*local.shape[:axis], size, *local.shape[axis + 1 :])
        sharding = NamedSharding(mesh, PartitionSpec(*[None] * axis, *ROWS))

        def part(index: Any) -> np.ndarray:
            wanted = np.arange(size)[index[axis]]
            return np.take(local, np.searchsorted(rows, wanted), axis=axis)

        return jax.make_array_from_callback(shape, sharding, part)

    return jax.tree.map(put, batch)


class Sharded:
    """`jax.jit` over a mesh. Parameters, optimiser state and averages are spread over `fsdp`; each step gathers the
    parameters where it uses them, and keeps of the gradients what its devices update (ZeRO: Rajbhandari et al. 2020,
    arXiv 1910.02054).
    """

    places: Places | None = None

    def __init__(self, mesh: Mesh, overrides: Mapping[str, str] | None = None) -> None:
        self.mesh, self._overrides = mesh, overrides

    def reduce(self, tree: PyTree) -> PyTree:
        return tree

    def shardings(self, shapes: State) -> State:
        """Where the leaves of the state lie."""
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
    """A leaf that lies spread over devices, whole on each of them; its cotangent is spread as the leaf was."""

    @jax.custom_vjp
    def gather(leaf: Array) -> Array:
        return jax.lax.with_sharding_constraint(leaf, NamedSharding(held.mesh, PartitionSpec()))

    gather.defvjp(
        lambda leaf: (gather(leaf), None), lambda _, cotangent: (jax.lax.with_sharding_constraint(cotangent, held),)
    )
    return gather(leaf)


class Mapped:
    """`jax.pmap`: each device has the whole state and its part of the batch; gradients are averaged over devices."""

    def __init__(self) -> None:
        self.mesh = make_mesh()
        self._whole = NamedSharding(self.mesh, PartitionSpec())
        # Made once, and with the step's own axis, so that nothing is compiled or moved again.
        self._spread = jax.pmap(lambda leaf: leaf, axis_name="data")
        self._copied = jax.pmap(lambda _, whole: whole, axis_name="data", in_axes=(0, None))
        # Where this process's devices stand among all.
        each = np.arange(len(self.mesh.local_devices))
        self._places = np.asarray(jax.pmap(lambda _: jax.lax.axis_index("data"), axis_name="data")(each))

    def reduce(self, tree: PyTree) -> PyTree:
        return jax.lax.pmean(tree, "data")

    def places(self, count: int) -> tuple[Int[Array, " batch"], int]:
        return jax.lax.axis_index("data") * count + jnp.arange(count), jax.lax.axis_size("data") * count

    def prepare(self, objective: Objective, shapes: State) -> Objective:
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
        return self._copied(np.arange(len(self._places)), arrays)
