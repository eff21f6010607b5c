"""Models whose weights take a half or a quarter of the memory."""

from typing import Any, Literal, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxdiff import trees
from jaxdiff.checks import one_of
from jaxdiff.networks.layers.compressed import Bfloat16, Int8

T = TypeVar("T")
Weights = Literal["float32", "bfloat16", "int8"]
WEIGHTS = ("float32", "bfloat16", "int8")


def compressed(model: T, weights: Weights) -> T:
    """The model with kernels that are stored in fewer bits, for sampling.

        model = jd.models.compressed(jd.load("runs/photos"), "int8")

    The kernels of dense layers and convolutions are compressed, also those of frozen models such as autoencoders and
    text encoders. Biases, norms and tables stay as they are. Each layer of `jaxdiff.networks` expands its kernel when
    it runs, so that a sampler holds one expanded kernel at a time. A compressed model is not for training.

    Args:
      model: a model, or any pytree with kernels in it.
      weights: "bfloat16" for 8 significant bits; "int8" for bytes, of which the largest of an output's weights is 127,
        so that the error of a weight is at most 1/254 of it; "float32" to change nothing.

    Raises:
      ValueError: `weights` is none of these.
    """
    one_of("weights", weights, WEIGHTS)
    if weights == "float32":
        return model
    made: T = jax.tree_util.tree_map_with_path(_to_bfloat16 if weights == "bfloat16" else _to_int8, model)
    return made


def _to_bfloat16(path: Any, leaf: Any) -> Any:
    if not _is_kernel(path, leaf):
        return leaf
    return Bfloat16(jax.lax.bitcast_convert_type(jnp.asarray(leaf, jnp.bfloat16), jnp.uint16))


def _to_int8(path: Any, leaf: Any) -> Any:
    if not _is_kernel(path, leaf):
        return leaf
    first = int(trees.is_stacked(trees.words_of(path)))
    scale = jnp.max(jnp.abs(leaf), axis=tuple(range(first, leaf.ndim - 1)), keepdims=True) / 127
    return Int8(_rounded(leaf, scale), scale)


def _rounded(kernel: Array, scale: Array) -> Array:
    return jnp.round(kernel / jnp.where(scale > 0, scale, 1)).astype(jnp.int8)


def _is_kernel(path: Any, leaf: Any) -> bool:
    words = trees.words_of(path)
    matrix = jnp.ndim(leaf) >= 2 + int(trees.is_stacked(words))
    return matrix and words[-1] == "kernel" and leaf.dtype == jnp.float32
