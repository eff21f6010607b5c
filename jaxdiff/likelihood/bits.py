"""Bits per dimension of data in levels, such as pixels."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PyTree

from jaxdiff import trees
from jaxdiff.denoisers import Denoiser
from jaxdiff.likelihood import divergence as divergences
from jaxdiff.likelihood.log_density import log_density
from jaxdiff.processes import Times


def dequantize(key: Key[Array, "*batch"], images: PyTree, *, levels: int = 256) -> PyTree:
    """Data in levels as real numbers: `2 (level + u - 1/2) / (levels - 1) - 1`, with u uniform on [0, 1).

    Every level becomes a cell of width `2/(levels - 1)` about the number that it has in training,
    `2 level/(levels - 1) - 1` (`data.pixels.to_unit`), and the cells lie side by side.

    Args:
      key: one key, or one key per example.
      images: integers from 0 to `levels - 1`, leaves `[batch, *event]`.
      levels: how many there are, at least 2.

    Raises:
      TypeError: leaves that are not integers.
      ValueError: `levels` below 2, or (where they are known) levels out of range.
    """
    if isinstance(levels, bool) or not isinstance(levels, int | np.integer) or levels < 2:
        raise ValueError(f"levels = {levels!r}; allowed are integers of at least 2")
    for leaf in jax.tree.leaves(images):
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.integer):
            raise TypeError(f"images has a leaf of type {jnp.result_type(leaf)}; allowed are integers")
        if isinstance(leaf, jax.core.Tracer) or not np.size(leaf):
            continue
        low, high = int(np.min(leaf)), int(np.max(leaf))
        if low < 0 or high >= levels:
            raise ValueError(f"images holds levels from {low} to {high}; allowed are 0 to {levels - 1}")
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf), jnp.result_type(float)), images)
    # A normal number's own probability is uniform: one function deals with keys.
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
    """How many bits the model takes per dimension to tell which level every number of the data is at.

    A model with density p on reals gives levels k the probability `P(k) = int_cell p`, over the cell of width
    `w = 2/(levels - 1)` that `dequantize` draws from. By Jensen's inequality

        -log2 P(k) <= E_u[-log2(w^d p(x + w u))]

    and this is one draw of the right side, divided by d: `-log p / (d ln 2) + log2((levels - 1)/2)`. Its mean over
    draws is an upper bound, tight where p is constant within cells. Theis et al. 2016 (arXiv 1511.01844), section 3.1.
    The density is that of `log_density`, with the data taken as being at `t_min`.

    Args:
      key: one key, or one key per example; for the place in the cell, and for probes.
      images: integers from 0 to `levels - 1`, leaves `[batch, *event]`. A model of numbers `2 level/(levels - 1) - 1`
        is assumed (`data.pixels.to_unit`).
      levels: how many levels there are, at least 2. Static.
      divergence, probes, probe_count, times, rtol, atol, max_steps: as `log_density`.

    Returns: bits per dimension, `[batch]`.

    Raises:
      TypeError, ValueError, RuntimeError: as `dequantize` and `log_density`.
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
