"""Bits per dimension of data in levels, such as pixels."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PyTree

from jaxdiff import checks, trees
from jaxdiff.denoisers import Denoiser
from jaxdiff.likelihood import divergence as divergences
from jaxdiff.likelihood.log_density import log_density
from jaxdiff.processes import Times


def dequantize(key: Key[Array, "*batch"], images: PyTree, *, levels: int = 256) -> PyTree:
    """Data in levels as real numbers: `2 (level + u - 1/2) / (levels - 1) - 1`, with u uniform on [0, 1).

    Every level becomes a cell of width `2/(levels - 1)`. The centre of the cell is the number that the level has in
    training, `2 level/(levels - 1) - 1` (`data.pixels.to_unit`). The cells lie side by side.

    Args:
      key: one key, or one key per example.
      images: integers from 0 to `levels - 1`, leaves `[batch, *event]`.
      levels: the number of levels, at least 2.

    Returns:
      The data as floating-point numbers, with the shapes of `images`.

    Raises:
      TypeError: `images` has leaves that are not integers.
      ValueError: `levels` is below 2, or `images` (where known) has levels out of range.
    """
    checks.integer("levels", levels, least=2)
    for leaf in jax.tree.leaves(images):
        dtype = jnp.result_type(leaf)
        checks.require(jnp.issubdtype(dtype, jnp.integer), "images.dtype", dtype, "integer types", TypeError)
        if not trees.traced(leaf) and np.size(leaf):
            low, high = int(np.min(leaf)), int(np.max(leaf))
            checks.require(low >= 0 and high < levels, "levels of images", (low, high), f"0 to {levels - 1}")
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf), jnp.result_type(float)), images)
    # The distribution function of a normal number is uniform, and `normal_like` knows both kinds of keys.
    uniform = jax.tree.map(jax.scipy.special.ndtr, trees.normal_like(trees.as_key(key), shapes))
    return jax.tree.map(lambda level, u: 2 * (level + u - 0.5) / (levels - 1) - 1, images, uniform)


def bits_per_dimension(
    key: Key[Array, "*batch"],
    denoiser: Denoiser,
    images: PyTree,
    *,
    levels: int = 256,
    divergence: Literal["exact", "hutchinson"] = "hutchinson",
    probes: divergences.Probes = "rademacher",
    probe_count: int = 1,
    times: Times | None = None,
    rtol: Any = 1e-5,
    atol: Any = 1e-5,
    max_steps: int = 4096,
) -> Float[Array, " batch"]:
    """The code length of data in levels under the model, in bits per dimension.

    A model with density p on real numbers gives the levels k the probability `P(k) = int_cell p`, over the cell of
    width `w = 2/(levels - 1)` that `dequantize` draws from. By Jensen's inequality, for data x of d dimensions,

        -log2 P(k) <= E_u[-log2(w^d p(x + w u))]

    The function returns one draw of the right side, divided by d:

        -log p / (d ln 2) + log2((levels - 1)/2)

    The mean over draws is an upper bound on the code length. It is tight where p is constant within cells. Theis et al.
    2016 (arXiv 1511.01844), section 3.1. The density is that of `log_density`, with the data at `t_min`.

    Args:
      key: one key, or one key per example; for the place in the cell and for the probes.
      images: integers from 0 to `levels - 1`, leaves `[batch, *event]`. The model must have been trained on the numbers
        `2 level/(levels - 1) - 1` (`data.pixels.to_unit`).
      levels: the number of levels, at least 2. Static.
      divergence, probes, probe_count, times, rtol, atol, max_steps: as for `log_density`.

    Returns:
      Bits per dimension, `[batch]`.

    Raises:
      TypeError, ValueError, RuntimeError: as for `dequantize` and `log_density`.
    """
    place, probing = trees.split(trees.as_key(key), 2)
    x = dequantize(place, images, levels=levels)
    nats = -log_density(
        denoiser,
        x,
        key=probing if divergence == "hutchinson" else None,
        divergence=divergence,
        probes=probes,
        probe_count=probe_count,
        times=times,
        rtol=rtol,
        atol=atol,
        max_steps=max_steps,
    ).log_density
    return nats / (trees.event_size(x) * np.log(2)) + np.log2((levels - 1) / 2)
