"""A mesh of devices, and the rows of a batch that lie on each of them."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int, PyTree

ROWS = PartitionSpec(("data", "fsdp"))


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
