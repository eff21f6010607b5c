"""Sets stored on the device: the host sends a step the indices of its examples, and the step looks them up."""

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int64, Shaped

from jaxdiff.checks import message, require
from jaxdiff.data.pipelines import ENDLESS, Batch, Batches, check_numeric, training_draw
from jaxdiff.data.sources import ArraySource, Examples


def training_indices(examples: Examples, batch_size: int, *, seed: int, rows: Sequence[int] | None = None) -> Batches:
    """Endless batches `{"index": int32 [batch]}`.

    `take` turns batch k into the k-th batch that `training_batches` returns for the same arguments, bit for bit. The
    arguments, the order and the state are those of `training_batches`.

    Raises:
      ValueError: an argument that `training_batches` refuses, or a set of 2**31 examples or more.
    """
    draw = training_draw(examples, batch_size, seed=seed, rows=rows)
    require(len(examples) < 2**31, "len(examples)", len(examples), "lengths below 2**31")
    return Batches(draw, _to_batch, steps=ENDLESS)


def device_arrays(examples: Examples) -> dict[str, np.ndarray]:
    """The arrays of a set in memory, `[n, *shape]` by name, to be put on the device. Nothing is copied.

    Pictures stay bytes, which take a quarter of the memory of float32 values.

    Raises:
      ValueError: `examples` is not in memory, or has text.
    """
    check_numeric(examples)
    source = examples.source
    if not isinstance(source, ArraySource):
        allowed = "sources in memory; call in_memory(examples)"
        raise ValueError(message("examples.source", type(source).__name__, allowed))
    return {name: np.asarray(source.columns[name]) for name in examples.fields}


def take(arrays: Mapping[str, Shaped[Array, "n ..."]], batch: Mapping[str, Array]) -> dict[str, Array]:
    """The batch that `training_batches` returns: entries `[batch, *shape]` by name.

    The function is pure and is called inside a step: under `jit` with `batch` sharded and `arrays` on every device,
    under `pmap`, or in a scan.

    Args:
      arrays: the result of `device_arrays`.
      batch: a batch of `training_indices`.
    """
    return {name: jnp.take(array, batch["index"], axis=0, mode="clip") for name, array in arrays.items()}


def _to_batch(indices: Int64[np.ndarray, " batch"]) -> Batch:
    return {"index": indices.astype(np.int32)}
