"""Samples drawn from a diffusion model: in batches, on several devices, decoded."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int, Key, PyTree, UInt32

from jaxdiff import distributed
from jaxdiff.checks import integer
from jaxdiff.denoisers import Denoiser
from jaxdiff.models.sampling import Sampling
from jaxdiff.processes import Process
from jaxdiff.sampling import sample
from jaxdiff.sampling.generate import FOR_GRID, keyed_noise
from jaxdiff.solvers import Tableau


def draw(
    model: Any,
    key: Key[Array, ""],
    entries: dict[str, Any],
    sampling: Sampling,
    count: int,
    *,
    anything: bool = True,
    batch_size: int = 250,
    mesh: Mesh | None = None,
) -> dict[str, np.ndarray]:
    """Draws samples, and returns all of them in every process, in the units of the data, by field.

    Sample i depends on the key, on i and on its conditions. It does not depend on `batch_size` or on the devices. With
    a grid that depends on the model (`grids.gits`), all samples also depend on the conditions of the first 256.

    Args:
      model: a `DiffusionModel`.
      key: a single key.
      entries: the entries of the conditions, `[1, ...]` or `[count, ...]`.
      sampling: the solver, the time grid, its steps and the guidance.
      count: the number of samples.
      anything: whether anything is asked for.
      batch_size: the number of samples drawn at a time, rounded up to a multiple of the number of devices.
      mesh: the devices over which a batch is spread, with the axes of `distributed.make_mesh`; None for all devices.

    Raises:
      ValueError: the count is not positive, or the settings do not fit the model.
    """
    integer("count", count)
    mesh = distributed.make_mesh() if mesh is None else mesh
    if mesh.size > 1:
        model = dataclasses.replace(model, params=_replicate(model.params, mesh), frozen=_replicate(model.frozen, mesh))
    size = -(-min(batch_size, count) // mesh.size) * mesh.size
    key_data, kind = np.asarray(jax.random.key_data(key)), str(jax.random.key_impl(key))
    rule = sampling.guidance if anything else sampling.guidance.unasked()
    tableau, out = None, []

    def denoiser_of(index: np.ndarray) -> Denoiser:
        """The denoiser of the samples with numbers `index`."""
        rows = {name: v if len(v) == 1 else np.asarray(v)[index] for name, v in entries.items()}
        made = model.denoiser_of(model.encode(rows), rule, anything)
        return _replicate(made, mesh) if mesh.size > 1 else made

    for start in range(0, count, size):
        # The last batch is filled up, so that all batches use one compiled program.
        index = np.minimum(np.arange(start, start + size), count - 1)
        # Nothing that the user may change is compiled into the program but shapes and functions.
        denoiser = denoiser_of(index)
        if tableau is None:
            tableau = _tableau(model, denoiser_of, sampling, count, key_data, kind, mesh)
        rows_over = NamedSharding(mesh, distributed.ROWS)
        sample_key, noise = _start(rows_over, kind, model.bound, key_data, index, tableau.times[0], model.params)
        z = _sample(sample_key, denoiser, noise, tableau)
        decoded = _decode(model.bound, model.frozen, z)
        left = count - start
        out.append(jax.tree.map(lambda leaf, left=left: _to_host(leaf)[:left], decoded))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *out)


def _tableau(
    model: Any,
    denoiser_of: Callable[[np.ndarray], Denoiser],
    sampling: Sampling,
    count: int,
    key_data: Any,
    kind: str,
    mesh: Mesh,
) -> Tableau:
    """The tableau of a model. A grid that depends on the model is made with the first samples, in one batch."""
    process: Process = model.process
    if "denoiser" not in sampling.grid_arguments:
        return sampling.tableau(process)
    # Their number must not depend on `batch_size`, as otherwise all samples would.
    index = np.arange(min(count, FOR_GRID))
    whole = NamedSharding(mesh, PartitionSpec())
    _, x = _start(whole, kind, model.bound, key_data, index, process.t_max, model.params)
    return sampling.tableau(process, denoiser_of(index), x)


_sample = jax.jit(sample)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _start(
    rows: NamedSharding,
    kind: str,
    bound: Any,
    key_data: UInt32[Array, " words"],
    index: Int[Array, " batch"],
    t: Any,
    params: PyTree,
) -> tuple[Key[Array, " batch"], PyTree]:
    """The keys and the initial noise at time t of the samples with numbers `index`."""
    key = jax.random.wrap_key_data(key_data, impl=kind)
    started = keyed_noise(key, index, bound.process(params), bound.like(len(index)), t)
    return jax.lax.with_sharding_constraint(started, rows)


@partial(jax.jit, static_argnums=0)
def _decode(bound: Any, frozen: PyTree, z: PyTree) -> dict[str, PyTree]:
    return bound.decoded(frozen, z)


def _replicate(tree: PyTree, mesh: Mesh) -> PyTree:
    """Copies the arrays of a pytree whole to every device of the mesh.

    With parameters spread over devices, the sampler would gather activations of the whole batch in every step.
    """
    leaves, structure = jax.tree.flatten(tree)
    replicated = NamedSharding(mesh, PartitionSpec())
    moved = [i for i, leaf in enumerate(leaves) if isinstance(leaf, jax.Array) and leaf.sharding != replicated]
    if moved:
        # With several processes, every process has its own copy of an array that lies on a single device.
        given = [np.asarray(leaves[i]) if len(leaves[i].sharding.device_set) == 1 else leaves[i] for i in moved]
        for i, leaf in zip(moved, jax.jit(lambda arrays: arrays, out_shardings=replicated)(given), strict=True):
            leaves[i] = leaf
    return jax.tree.unflatten(structure, leaves)


def _to_host(samples: Array) -> np.ndarray:
    if samples.is_fully_addressable:
        return np.asarray(samples)
    return np.asarray(multihost_utils.process_allgather(samples, tiled=True))
