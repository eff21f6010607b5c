"""Samples and pictures from a model."""

import jax
import numpy as np
from jaxtyping import Array, Float, Int, Key, UInt8

from jaxdiff.processes import prior_sample
from jaxdiff.sampling import sample
from jaxdiff.training import images
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
) -> Float[np.ndarray, "n *event"]:
    """n samples, one for each label, as NumPy. Sample i depends on the key, i and its label, not on `batch_size`.

    Args:
      labels: classes, or None for samples of the whole distribution.
      config: solver, grid, steps and guidance.
      count: how many, when there are no labels.
      batch_size: how many at a time.
    """
    n = count if labels is None else len(labels)
    if n is None or n < 1:
        raise ValueError(f"count = {count}, labels = {labels}; allowed are at least one label, or a positive count")
    tableau = config.make_tableau(model.process)
    keys = jax.random.split(key, n)
    out = []
    for start in range(0, n, batch_size):
        # The last batch is filled up, so that one program serves all.
        index = np.minimum(np.arange(start, start + min(batch_size, n)), n - 1)
        noise_key, sample_key = (jax.vmap(jax.random.fold_in, (0, None))(keys[index], i) for i in (0, 1))
        noise = prior_sample(noise_key, model.process, (len(index), *model.shape))
        denoiser = model.denoiser() if labels is None else model.denoiser(labels[index], config.guidance)
        out.append(np.asarray(_sample(sample_key, denoiser, noise, tableau))[: n - start])
    return np.concatenate(out)


def picture(
    model: Model, key: Key[Array, ""], config: SampleConfig, *, columns: int = 10
) -> UInt8[np.ndarray, "h w 3"]:
    """Samples as one picture: a labelled row for each class (ten at most), or ten rows; for points in the plane a
    scatter plot.
    """
    if len(model.shape) == 1:
        labels = np.arange(2000) % model.num_classes if model.num_classes else None
        return images.scatter(draw(model, key, labels, config, count=2000, batch_size=2000), labels=labels)
    if not model.num_classes:
        return images.grid(draw(model, key, None, config, count=10 * columns), columns=columns)
    shown = min(model.num_classes, 10)
    labels = np.repeat(np.arange(shown), columns)
    names = [model.class_names[i] if model.class_names else str(i) for i in range(shown)]
    return images.grid(draw(model, key, labels, config), columns=columns, row_labels=names)
