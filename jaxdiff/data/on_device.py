"""Sets that live on the device: a step is sent the numbers of its examples and looks them up itself."""

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float32, Int32, Shaped, UInt8

from jaxdiff.data.pipelines import ENDLESS, Batch, Batches, training_draw
from jaxdiff.data.sources import ArraySource, Examples


def training_indices(
    images: Examples, batch_size: int, *, seed: int, flip: bool = False, rows: Sequence[int] | None = None
) -> Batches:
    """Endless batches `{"index": int32 [batch], "mirror": bool [batch]}`, `mirror` with `flip` only.

    `take` makes of batch k what `training_batches`, given the same arguments, gives for it, to the bit; arguments,
    order, state and errors are those of `training_batches`.

    Raises:
      ValueError: see `training_batches`; or a set of 2**31 examples or more.
    """
    draw = training_draw(images, batch_size, seed=seed, flip=flip, rows=rows)
    if len(images) >= 2**31:
        raise ValueError(f"images holds {len(images)} examples; allowed are fewer than 2**31")
    return Batches(draw, _to_batch, steps=ENDLESS)


def device_arrays(images: Examples) -> dict[str, np.ndarray]:
    """The arrays of a set in memory, to be put on the device: `{"x": [n, *event], "cond": int32 [n]}`.

    Examples stay bytes, a quarter of what their values take; no `cond` when unlabelled. Nothing is copied.

    Raises:
      ValueError: `images` is not in memory.
    """
    source = images.source
    if not isinstance(source, ArraySource):
        raise ValueError(f"images has a source of type {type(source).__name__}; allowed are sets `in_memory`")
    return {"x": source.x} if source.labels is None else {"x": source.x, "cond": source.labels}


def take(arrays: Mapping[str, Shaped[Array, "n ..."]], batch: Mapping[str, Array]) -> dict[str, Array]:
    """The batch `{"x": float32 [batch, *event], "cond": int32 [batch]}` that `training_batches` would have made.

    Pure, for use inside of a step: under `jit` with `batch` sharded and `arrays` on every device, under `pmap`, in a
    scan.

    Args:
      arrays: what `device_arrays` gave.
      batch: what `training_indices` gave.
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
    """`pixels.to_unit`, to the bit on every device.

    Compilers make of a division by 127.5 a product with a rounded inverse, or divide less exactly than NumPy. So its
    result is written as a whole number of 2^-24: 2^24 (p/127.5 - 1) = 131586 p - 2^24 + p/127.5, where rounding to
    float32, coarser from p = 128 on, makes of the last term 0, 1 or 2.
    """
    p = pixels.astype(jnp.int32)
    number = 131586 * p - 2**24 + (p >= 64) + (p >= 128)
    return number.astype(jnp.float32) * jnp.float32(2.0**-24)


def _to_batch(drawn: tuple[np.ndarray, np.ndarray | None]) -> Batch:
    indices, mirrored = drawn
    batch = {"index": indices.astype(np.int32)}
    return batch if mirrored is None else {**batch, "mirror": mirrored}
