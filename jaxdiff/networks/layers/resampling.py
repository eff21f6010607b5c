"""Halving and doubling the resolution with a short filter, in any number of dimensions.

A filter is a tuple of taps of even length; the functions normalise its sum to 1. The filter `(1, 1)` averages pairs and
repeats pixels. The filter `(1, 3, 3, 1)` of NCSN++ (Song et al. 2021) and StyleGAN2 (Karras et al. 2020) is smoother.
Axes are filtered one after the other, with zeros outside. On axes of even length, `upsample` is the transpose of
`downsample`, multiplied by 2 for every axis.

Halving repeats the last pixel of an axis of odd length n, and the length becomes (n + 1) / 2. Doubling takes the size
of the result and cuts off the surplus pixel. An axis of length 1 does not change.
"""

from collections.abc import Sequence
from functools import reduce

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxdiff.checks import require


def downsample(
    x: Float[Array, "batch *space channels"], taps: Sequence[float] = (1, 1)
) -> Float[Array, "batch *half channels"]:
    """Filters `x` and keeps every second position: each length n of space becomes n / 2, rounded up.

    On an axis of even length, with `sum f = 1` and `pad = len(f) / 2 - 1`,

        y[i] = sum_k f[k] x[2 i + k - pad]

    Raises:
      ValueError: `taps` has an odd number of entries or sums to zero.
    """
    f = _normalised(taps)
    for axis in range(1, x.ndim - 1):
        if x.shape[axis] > 1:
            x = _halve(x, f, axis)
    return x


def upsample(
    x: Float[Array, "batch *half channels"], size: Sequence[int], taps: Sequence[float] = (1, 1)
) -> Float[Array, "batch *space channels"]:
    """Doubles `x` and cuts the result to the spatial shape `size`.

    On every axis, with `sum f = 1` and `pad = len(f) / 2 - 1`,

        y[j] = 2 sum_i x[i] f[j + pad - 2 i]

    Args:
      x: `[batch, *half, channels]`.
      size: the spatial shape of the result. Each length is twice the length in `x`, or one less.
      taps: the filter.

    Raises:
      ValueError: `taps` has an odd number of entries or sums to zero, or `size` does not fit `x`.
    """
    f, half = _normalised(taps), x.shape[1:-1]
    fits = tuple((n + 1) // 2 for n in size) == half
    require(fits, "size", tuple(size), f"lengths that halve, rounding up, to the spatial shape {half} of x")
    for axis, length in enumerate(size, start=1):
        if length > 1:
            x = lax.slice_in_dim(_double(x, f, axis), 0, length, axis=axis)
    return x


def _normalised(taps: Sequence[float]) -> tuple[float, ...]:
    good = len(taps) % 2 == 0 and sum(taps) != 0
    require(good, "taps", tuple(taps), "an even number of taps with a non-zero sum")
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
    # Even outputs use one half of the taps and odd outputs the other half. Interleaving two short filters avoids
    # multiplying by inserted zeros.
    n, reach, pad = x.shape[axis], len(f) // 2, len(f) // 2 - 1
    padded = jnp.pad(x, _padding(x, axis, reach, reach))

    def phase(r: int) -> Array:
        starts = {k: reach + (r + pad - k) // 2 for k in range((r + pad) % 2, len(f), 2)}
        return reduce(jnp.add, [2 * f[k] * lax.slice_in_dim(padded, s, s + n, axis=axis) for k, s in starts.items()])

    pair = jnp.stack([phase(0), phase(1)], axis=axis + 1)
    return pair.reshape(*x.shape[:axis], 2 * n, *x.shape[axis + 1 :])
