"""Sets stored on the device: the host sends a step the indices of its examples, and the step looks them up."""

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float32, Int32, Shaped, UInt8

from jaxdiff.checks import message, require
from jaxdiff.data.pipelines import ENDLESS, Batch, Batches, training_draw
from jaxdiff.data.sources import ArraySource, Examples


def training_indices(
    examples: Examples, batch_size: int, *, seed: int, flip: bool = False, rows: Sequence[int] | None = None
) -> Batches:
    """Endless batches `{"index": int32 [batch], "mirror": bool [batch]}`; `mirror` exists only with `flip`.

    `take` turns batch k into the k-th batch that `training_batches` returns for the same arguments, bit for bit. The
    arguments, the order and the state are those of `training_batches`.

    Raises:
      ValueError: an argument that `training_batches` refuses, or a set of 2**31 examples or more.
    """
    draw = training_draw(examples, batch_size, seed=seed, flip=flip, rows=rows)
    require(len(examples) < 2**31, "len(examples)", len(examples), "lengths below 2**31")
    return Batches(draw, _to_batch, steps=ENDLESS)


def device_arrays(examples: Examples) -> dict[str, np.ndarray]:
    """The arrays of a set in memory, to be put on the device: `{"x": [n, *event], "cond": int32 [n]}`.

    Images stay bytes, which take a quarter of the memory of float32 values. An unlabelled set has no `cond`. Nothing is
    copied.

    Raises:
      ValueError: `examples` is not in memory.
    """
    source = examples.source
    if not isinstance(source, ArraySource):
        allowed = "sources in memory; call in_memory(examples)"
        raise ValueError(message("examples.source", type(source).__name__, allowed))
    return {"x": source.x} if source.labels is None else {"x": source.x, "cond": source.labels}


def take(arrays: Mapping[str, Shaped[Array, "n ..."]], batch: Mapping[str, Array]) -> dict[str, Array]:
    """The batch `{"x": float32 [batch, *event], "cond": int32 [batch]}` that `training_batches` returns.

    The function is pure and is called inside a step: under `jit` with `batch` sharded and `arrays` on every device,
    under `pmap`, or in a scan.

    Args:
      arrays: the result of `device_arrays`.
      batch: a batch of `training_indices`.
    """
    x = _rows(arrays["x"], batch["index"])
    if "mirror" in batch:
        mirror: Bool[Array, " batch"] = batch["mirror"]
        x = jnp.where(mirror[:, None, None, None], x[:, :, ::-1], x)
    values = _to_unit(x) if x.dtype == jnp.uint8 else x
    return {"x": values, "cond": _rows(arrays["cond"], batch["index"])} if "cond" in arrays else {"x": values}


def _rows(array: Shaped[Array, "n ..."], index: Int32[Array, " batch"]) -> Shaped[Array, "batch ..."]:
    return jnp.take(array, index, axis=0, mode="clip")


def _to_unit(pixels: UInt8[Array, "*shape"]) -> Float32[Array, "*shape"]:
    """`pixels.to_unit` with the same bits on every device.

    A compiler may replace the division by 127.5 with a product by the rounded inverse, or divide less exactly than
    NumPy. This function therefore writes the result as an integer multiple of 2^-24:

        2^24 (p / 127.5 - 1) = 131586 p - 2^24 + p / 127.5

    Rounding to float32, which is coarser from p = 128 on, turns the last term into 0, 1 or 2.
    """
    p = pixels.astype(jnp.int32)
    number = 131586 * p - 2**24 + (p >= 64) + (p >= 128)
    return number.astype(jnp.float32) * jnp.float32(2.0**-24)


def _to_batch(drawn: tuple[np.ndarray, np.ndarray | None]) -> Batch:
    indices, mirrored = drawn
    batch = {"index": indices.astype(np.int32)}
    return batch if mirrored is None else {**batch, "mirror": mirrored}
