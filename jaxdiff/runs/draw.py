"""Samples and pictures drawn from a model."""

import dataclasses
from functools import partial

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, Key, PyTree, UInt8, UInt32

from jaxdiff import distributed
from jaxdiff.checks import integer
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
    """Draws samples, and returns all of them in every process.

    Sample i depends on the key, on i and on its label. It does not depend on `batch_size` or on the devices.

    Args:
      model: the model that is sampled.
      key: a single key.
      labels: one class for each sample; None for samples of the whole distribution.
      config: the solver, the time grid, its steps and the guidance.
      count: the number n of samples, if `labels` is None.
      batch_size: the number of samples drawn at a time, rounded up to a multiple of the number of devices.
      mesh: the devices over which a batch is spread, with the axes of `distributed.make_mesh`; None for all devices.

    Returns:
      The samples, as a NumPy array.

    Raises:
      ValueError: there is neither a label nor a positive count, or the settings or labels do not fit the model.
    """
    n = count if labels is None else len(labels)
    integer("count" if labels is None else "len(labels)", n)
    assert n is not None
    mesh = distributed.make_mesh() if mesh is None else mesh
    tableau = config.make_tableau(model.process)
    if mesh.size > 1:
        model = dataclasses.replace(model, params=_replicate(model.params, mesh))
    size = -(-min(batch_size, n) // mesh.size) * mesh.size
    rows = NamedSharding(mesh, distributed.ROWS)
    start_of = jax.jit(partial(_start, model.process, n, model.shape), out_shardings=(rows, rows))
    key_data = np.asarray(jax.random.key_data(key))
    out = []
    for start in range(0, n, size):
        # The last batch is filled up, so that all batches use one compiled program.
        index = np.minimum(np.arange(start, start + size), n - 1)
        sample_key, noise = start_of(key_data, index)
        denoiser = model.denoiser() if labels is None else model.denoiser(labels[index], config.guidance)
        if mesh.size > 1:
            denoiser = _replicate(denoiser, mesh)
        out.append(_to_host(_sample(sample_key, denoiser, noise, tableau))[: n - start])
    return np.concatenate(out)


def _start(
    process: Process, n: int, shape: tuple[int, ...], key_data: UInt32[Array, " words"], index: Int[Array, " batch"]
) -> tuple[Key[Array, " batch"], Float[Array, "batch *event"]]:
    """The keys and the initial noise of the samples with numbers `index`, out of `n` samples."""
    keys = jax.random.split(jax.random.wrap_key_data(key_data), n)[index]
    noise_key, sample_key = (jax.vmap(jax.random.fold_in, (0, None))(keys, i) for i in (0, 1))
    return sample_key, prior_sample(noise_key, process, (len(index), *shape))


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


def _to_host(samples: Array) -> Float[np.ndarray, "batch *event"]:
    if samples.is_fully_addressable:
        return np.asarray(samples)
    return np.asarray(multihost_utils.process_allgather(samples, tiled=True))


def picture(
    model: Model, key: Key[Array, ""], config: SampleConfig, *, columns: int = 10, mesh: Mesh | None = None
) -> UInt8[np.ndarray, "h w 3"]:
    """Draws samples and shows them in one picture.

    Images with labels have one captioned row for each class, at most ten; images without labels have ten rows. Points
    in the plane give a scatter plot of 2000 samples.

    Args:
      model: the model that is sampled.
      key: a single key.
      config: the solver, the time grid, its steps and the guidance.
      columns: the number of images in a row.
      mesh: the devices over which a batch is spread; None for all devices.
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
    return pictures.grid(draw(model, key, labels, config, mesh=mesh), columns=columns, row_captions=names)
