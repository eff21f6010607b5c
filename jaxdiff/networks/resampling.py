"""Halving and doubling the resolution with a short filter, in any number of dimensions.

A filter is a tuple of taps of even length, normalised here: `(1, 1)` averages pairs and repeats pixels; `(1, 3, 3, 1)`
is the smoother filter of NCSN++ (Song et al. 2021) and StyleGAN2 (Karras et al. 2020). Axes are filtered one after the
other, and outside is zero. On even axes `upsample` is the transpose of `downsample`, doubled for every axis.

An axis of odd length n becomes (n + 1) / 2 by halving, its last pixel being repeated first. Doubling goes to a given
size and cuts the surplus pixel off. An axis of length 1 stays as it is.
"""

from collections.abc import Sequence
from functools import reduce

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


def downsample(
    x: Float[Array, "batch *space channels"], taps: Sequence[float] = (1, 1)
) -> Float[Array, "batch *half channels"]:
    """Filters `x` and keeps every second position: each length n of space becomes n / 2, rounded up.

    On an even axis `y[i] = sum_k f[k] x[2 i + k - pad]` with `sum f = 1` and `pad = len(f) / 2 - 1`.

    Raises:
      ValueError: if `taps` has an odd number of entries or sums to zero.
    """
    f = _normalised(taps)
    for axis in range(1, x.ndim - 1):
        if x.shape[axis] > 1:
            x = _halve(x, f, axis)
    return x


def upsample(
    x: Float[Array, "batch *half channels"], size: Sequence[int], taps: Sequence[float] = (1, 1)
) -> Float[Array, "batch *space channels"]:
    """Doubles `x` and cuts it to the spatial shape `size`, that from which `downsample` comes to the shape of `x`.

    `y[j] = 2 sum_i x[i] f[j + pad - 2 i]` with `sum f = 1` and `pad = len(f) / 2 - 1`.

    Raises:
      ValueError: if `taps` has an odd number of entries or sums to zero, or if `size` is not twice the shape of `x`, or
        one less.
    """
    f = _normalised(taps)
    if tuple((n + 1) // 2 for n in size) != x.shape[1:-1]:
        raise ValueError(f"size={tuple(size)} does not halve, rounding up, to the spatial shape {x.shape[1:-1]} of x")
    for axis, length in enumerate(size, start=1):
        if length > 1:
            x = lax.slice_in_dim(_double(x, f, axis), 0, length, axis=axis)
    return x


def _normalised(taps: Sequence[float]) -> tuple[float, ...]:
    if not taps or len(taps) % 2 or sum(taps) == 0:
        raise ValueError(f"taps={tuple(taps)}; allowed is an even number of taps with a non-zero sum")
    return tuple(tap / sum(taps) for tap in taps)


def _padding(x: Array, axis: int, before: int, after: int) -> list[tuple[int, int]]:
    return [(before, after) if i == axis else (0, 0) for i in range(x.ndim)]


def _halve(x: Array, f: tuple[float, ...], axis: int) -> Array:
    if x.shape[axis] % 2:
        x = jnp.pad(x, _padding(x, axis, 0, 1), mode="edge")
    span, pad = x.shape[axis] - 1, len(f) // 2 - 1
    x = jnp.pad(x, _padding(x, axis, pad, pad))
    return reduce(jnp.add, [w * lax.slice_in_dim(x, k, k + span, stride=2, axis=axis) for k, w in enumerate(f)])


def _double(x: Array, f: tuple[float, ...], axis: int) -> Array:
    # Even and odd outputs each see every second tap: two short filters, interleaved, and no inserted zeros to multiply.
    n, reach, pad = x.shape[axis], len(f) // 2, len(f) // 2 - 1
    padded = jnp.pad(x, _padding(x, axis, reach, reach))

    def phase(r: int) -> Array:
        starts = {k: reach + (r + pad - k) // 2 for k in range((r + pad) % 2, len(f), 2)}
        return reduce(jnp.add, [2 * f[k] * lax.slice_in_dim(padded, s, s + n, axis=axis) for k, s in starts.items()])

    pair = jnp.stack([phase(0), phase(1)], axis=axis + 1)
    return pair.reshape(*x.shape[:axis], 2 * n, *x.shape[axis + 1 :])
