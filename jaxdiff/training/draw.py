"""Samples and pictures from a model."""

from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, Key, UInt8

from jaxdiff.processes import prior_sample
from jaxdiff.sampling import sample
from jaxdiff.training import images, parallel
from jaxdiff.training.config import SampleConfig
from jaxdiff.training.load import Model

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
      mesh: the devices that a batch is spread over, with the axes of `parallel.make_mesh`; None for all there are.
    """
    n = count if labels is None else len(labels)
    if n is None or n < 1:
        raise ValueError(f"count = {count}, labels = {labels}; allowed are at least one label, or a positive count")
    mesh = parallel.make_mesh() if mesh is None else mesh
    tableau = config.make_tableau(model.process)
    keys = jax.random.split(key, n)
    size = -(-min(batch_size, n) // mesh.size) * mesh.size
    out = []
    for start in range(0, n, size):
        # The last batch is filled up, so that one program serves all.
        index = np.minimum(np.arange(start, start + size), n - 1)
        noise_key, sample_key = (jax.vmap(jax.random.fold_in, (0, None))(keys[index], i) for i in (0, 1))
        noise = prior_sample(noise_key, model.process, (size, *model.shape))
        rows = None if labels is None else labels[index]
        denoiser = model.denoiser() if rows is None else model.denoiser(rows, config.guidance)
        if mesh.size > 1:
            sample_key, noise = jax.device_put((sample_key, noise), NamedSharding(mesh, parallel.ROWS))
            denoiser = jax.tree.map(lambda leaf: _on_all(leaf, mesh), denoiser)
        out.append(_to_host(_sample(sample_key, denoiser, noise, tableau))[: n - start])
    return np.concatenate(out)


def _on_all(leaf: Any, mesh: Mesh) -> Any:
    """An array whole on every device of the mesh. Of parameters spread over devices, the sampler would gather in every
    step what they make of the whole batch.
    """
    if not isinstance(leaf, jax.Array):
        return leaf
    return jax.device_put(leaf, NamedSharding(mesh, PartitionSpec()))


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
        return images.scatter(points, labels=labels)
    if not model.num_classes:
        return images.grid(draw(model, key, None, config, count=10 * columns, mesh=mesh), columns=columns)
    shown = min(model.num_classes, 10)
    labels = np.repeat(np.arange(shown), columns)
    names = [model.class_names[i] if model.class_names else str(i) for i in range(shown)]
    return images.grid(draw(model, key, labels, config, mesh=mesh), columns=columns, row_labels=names)
