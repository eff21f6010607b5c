"""Meshes of devices, and the rows of a batch on each device."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int, PyTree

from jaxdiff.checks import message, one_line

ROWS = PartitionSpec(("data", "fsdp"))
"""How the first axis of a batch is sharded: over all devices."""


def all_devices() -> list[Any]:
    """The devices of all processes.

    Raises:
      ValueError: JAX has no device, because it was told to use platforms that are not there.
    """
    try:
        return list(jax.devices())
    except (AssertionError, RuntimeError) as error:  # JAX's AssertionError has no text
        settings: Any = jax.config
        reason = f" ({one_line(error)})" if str(error) else ""
        allowed = f"platforms that JAX finds on this machine, such as 'cpu'{reason}"
        raise ValueError(message("JAX_PLATFORMS", settings.jax_platforms, allowed)) from error


def make_mesh(devices: Sequence[Any] | None = None, fsdp: int = 1) -> Mesh:
    """A mesh with the axes `data` and `fsdp`.

    Args:
      devices: the devices to use; None for all devices of all processes.
      fsdp: the number of devices that share one copy of the state.

    Raises:
      ValueError: `fsdp` does not divide the number of devices.
    """
    devices = all_devices() if devices is None else list(devices)
    if fsdp < 1 or len(devices) % fsdp:
        raise ValueError(f"parallel.fsdp = {fsdp}; allowed are divisors of the {len(devices)} devices")
    # Neighbours in the network share a copy. On a torus they may be a part of one of its axes.
    shape = (len(devices) // fsdp, fsdp)
    grid = mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
    return Mesh(grid, ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)


def process_rows(mesh: Mesh, batch_size: int) -> Int[np.ndarray, " rows"]:
    """The rows of a batch, ascending, that are placed on this process's devices.

    Raises:
      ValueError: `batch_size` is not a multiple of the number of devices.
    """
    check_batch(batch_size, mesh)
    held = NamedSharding(mesh, ROWS).addressable_devices_indices_map((batch_size,)).values()
    return np.unique(np.concatenate([np.arange(batch_size)[index] for index in held]))


def check_batch(batch_size: int, mesh: Mesh, accumulate: int = 1) -> None:
    """Raises a ValueError unless a batch, cut into `accumulate` parts, gives every device equally many examples."""
    parts = mesh.size * accumulate
    if batch_size % parts:
        raise ValueError(
            f"train.batch_size = {batch_size}; allowed are multiples of {parts}, for {mesh.size} devices and "
            f"parallel.accumulate = {accumulate}"
        )


def place_rows(mesh: Mesh, batch: PyTree, stacked: bool = False) -> PyTree:
    """A batch as global arrays, sharded over the devices of all processes.

    Args:
      mesh: the devices.
      batch: the rows `process_rows` of a batch, as NumPy arrays.
      stacked: whether there is an axis of steps before the axis of rows.
    """

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
