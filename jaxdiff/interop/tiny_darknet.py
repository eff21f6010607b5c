"""The weights of Tiny Darknet, from an `.npz` file of arrays `w0`, `b0` to `w15`, `b15`."""

import re
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxdiff.checks import require
from jaxdiff.networks import TinyDarknet


def tiny_darknet(tensors: Mapping[str, np.ndarray]) -> PyTree:
    """The variables of `networks.TinyDarknet`. Kernels are `[height, width, in, out]` in the file, too.

    Raises:
      ValueError: an array is missing or has another shape.
    """
    shapes = jax.eval_shape(TinyDarknet().init, jax.random.key(0), jnp.zeros((1, 16, 16, 3)))
    variables: dict[str, dict[str, dict[str, np.ndarray]]] = {"params": {}}
    for layer, leaves in shapes["params"].items():
        found = variables["params"][layer] = {}
        for leaf, like in leaves.items():
            name = re.sub(r"conv_(\d+)", ("w" if leaf == "kernel" else "b") + r"\1", layer)
            require(name in tensors, "names of arrays", sorted(tensors)[:4], "w0, b0, ..., w15, b15")
            require(tensors[name].shape == like.shape, f"shape of {name}", tensors[name].shape, f"{like.shape}")
            found[leaf] = np.asarray(tensors[name], like.dtype)
    return variables
