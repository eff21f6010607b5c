"""Samples and pictures from a model."""

import dataclasses
from functools import partial

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, Key, PyTree, UInt8, UInt32

from jaxdiff import distributed
from jaxdiff.media import pictures
from jaxdiff.processes import Process, prior_sample
from jaxdiff.runs.config import SampleConfig
from jaxdiff.runs.load import Model
from jaxdiff.sampling import sample

_sample = jax.jit(sample)


def draw(
    model: Model,
    key: Key[Array, ""],
    labels: Int[np.ndarray, " n"] | None,
    config: SampleConfig,
    *,
    count: int | None = None,
    batch_size: int = 250,
    mesh: Mesh | None = None,
) -> Float[np.ndarray, "n *event"]:
    """n samples, one for each label, as NumPy, on every process. Sample i depends on the key, i and its label, neither
    on `batch_size` nor on the devices.

    Args:
      labels: classes, or None for samples of the whole distribution.
      config: solver, grid, steps and guidance.
      count: how many, when there are no labels.
      batch_size: how many at a time, brought up to a multiple of the devices.
      mesh: the devices that a batch is spread over, with the axes of `distributed.make_mesh`; None for all there are.
    """
    n = count if labels is None else len(labels)
    if n is None or n < 1:
        raise ValueError(f"count = {count}, labels = {labels}; allowed are at least one label, or a positive count")
    mesh = distributed.make_mesh() if mesh is None else mesh
    tableau = config.make_tableau(model.process)
    if mesh.size > 1:
        model = dataclasses.replace(model, params=_on_all(model.params, mesh))
    size = -(-min(batch_size, n) // mesh.size) * mesh.size
    rows = NamedSharding(mesh, distributed.ROWS)
    start_of = jax.jit(partial(_start, model.process, n, model.shape), out_shardings=(rows, rows))
    key_data = np.asarray(jax.random.key_data(key))
    out = []
    for start in range(0, n, size):
        # The last batch is filled up, so that one program serves all.
        index = np.minimum(np.arange(start, start + size), n - 1)
        sample_key, noise = start_of(key_data, index)
        denoiser = model.denoiser() if labels is None else model.denoiser(labels[index], config.guidance)
        if mesh.size > 1:
            denoiser = _on_all(denoiser, mesh)
        out.append(_to_host(_sample(sample_key, denoiser, noise, tableau))[: n - start])
    return np.concatenate(out)


def _start(
    process: Process, n: int, shape: tuple[int, ...], key_data: UInt32[Array, " words"], index: Int[Array, " batch"]
) -> tuple[Key[Array, " batch"], Float[Array, "batch *event"]]:
    """The keys and the noise that samples `index` of `n` start from."""
    keys = jax.random.split(jax.random.wrap_key_data(key_data), n)[index]
    noise_key, sample_key = (jax.vmap(jax.random.fold_in, (0, None))(keys, i) for i in (0, 1))
    return sample_key, prior_sample(noise_key, process, (len(index), *shape))


def _on_all(tree: PyTree, mesh: Mesh) -> PyTree:
    """The arrays of a pytree whole on every device of the mesh. Of parameters spread over devices, the sampler would
    gather in every step what they make of the whole batch.
    """
    leaves, structure = jax.tree.flatten(tree)
    whole = NamedSharding(mesh, PartitionSpec())
    there = [i for i, leaf in enumerate(leaves) if isinstance(leaf, jax.Array) and leaf.sharding != whole]
    if there:
        # Of several processes, each has what lies on one device only.
        given = [np.asarray(leaves[i]) if len(leaves[i].sharding.device_set) == 1 else leaves[i] for i in there]
        for i, leaf in zip(there, jax.jit(lambda arrays: arrays, out_shardings=whole)(given), strict=True):
            leaves[i] = leaf
    return jax.tree.unflatten(structure, leaves)


def _to_host(samples: Array) -> Float[np.ndarray, "batch *event"]:
    if samples.is_fully_addressable:
        return np.asarray(samples)
    return np.asarray(multihost_utils.process_allgather(samples, tiled=True))


def picture(
    model: Model, key: Key[Array, ""], config: SampleConfig, *, columns: int = 10, mesh: Mesh | None = None
) -> UInt8[np.ndarray, "h w 3"]:
    """Samples as one picture: a labelled row for each class (ten at most), or ten rows; for points in the plane a
    scatter plot.
    """
    if len(model.shape) == 1:
        labels = np.arange(2000) % model.num_classes if model.num_classes else None
        points = draw(model, key, labels, config, count=2000, batch_size=2000, mesh=mesh)
        return pictures.scatter(points, labels=labels)
    if not model.num_classes:
        return pictures.grid(draw(model, key, None, config, count=10 * columns, mesh=mesh), columns=columns)
    shown = min(model.num_classes, 10)
    labels = np.repeat(np.arange(shown), columns)
    names = [model.class_names[i] if model.class_names else str(i) for i in range(shown)]
    return pictures.grid(draw(model, key, labels, config, mesh=mesh), columns=columns, row_labels=names)
