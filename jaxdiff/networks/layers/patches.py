"""Patches of signals, images and videos as tokens, and back."""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from jaxdiff.checks import integer, require
from jaxdiff.networks.layers.compressed import promote


def patch_sizes(patch: Sequence[int], space: Sequence[int]) -> tuple[int, ...]:
    """The size of a patch along each axis of space.

    Args:
      patch: one size for all axes, or one size per axis.
      space: the spatial shape of the input.

    Raises:
      ValueError: there is another number of sizes, or a size does not divide the length of its axis.
    """
    for size in patch:
        integer("patch", size)
    allowed = f"tuples of 1 or {len(space)} integers for the space {tuple(space)}"
    require(len(patch) in (1, len(space)), "patch", tuple(patch), allowed)
    sizes = tuple(patch) * (len(space) if len(patch) == 1 else 1)
    fits = all(length % size == 0 for length, size in zip(space, sizes, strict=True))
    require(fits, "x.shape", ("batch", *space, "channels"), f"a space of multiples of the patch {sizes}")
    return sizes


def patchify(
    x: Float[Array, "batch *space channels"], patch: Sequence[int]
) -> Float[Array, "batch *grid patch_channels"]:
    """Cuts `x` into patches.

    Args:
      x: `[batch, *space, channels]`.
      patch: the size of a patch along each axis, which divides the length of the axis.

    Returns:
      `[batch, *grid, prod(patch) * channels]`. The last axis runs over the axes of the patch and then over the
      channels.
    """
    batch, space, channels = x.shape[0], x.shape[1:-1], x.shape[-1]
    grid = tuple(length // size for length, size in zip(space, patch, strict=True))
    split = x.reshape(batch, *(n for pair in zip(grid, patch, strict=True) for n in pair), channels)
    axes = range(1, 2 * len(patch) + 1)
    return split.transpose(0, *axes[::2], *axes[1::2], split.ndim - 1).reshape(batch, *grid, -1)


def unpatchify(
    tokens: Float[Array, "batch *grid patch_channels"], patch: Sequence[int]
) -> Float[Array, "batch *space channels"]:
    """The inverse of `patchify`."""
    batch, grid = tokens.shape[0], tokens.shape[1:-1]
    n = len(patch)
    split = tokens.reshape(batch, *grid, *patch, -1)
    order = [axis for i in range(n) for axis in (1 + i, 1 + n + i)]
    space = tuple(length * size for length, size in zip(grid, patch, strict=True))
    return split.transpose(0, *order, split.ndim - 1).reshape(batch, *space, -1)


class PatchEmbedding(nn.Module):
    """One token per patch: a convolution whose window and stride are the patch.

    The kernel is `[*patch, in, features]`. It starts as that of a dense layer over the numbers of a patch (Glorot &
    Bengio 2010), as in DiT (Peebles & Xie 2023).

    Attributes:
      features: the length of a token.
      patch: the size of a patch along each axis.
      dtype: compute type; parameters are float32.
      use_bias: whether there is a bias.
    """

    features: int
    patch: tuple[int, ...]
    dtype: DTypeLike
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "batch *space channels"]) -> Float[Array, "batch *grid features"]:
        """Embeds `x` `[batch, *space, channels]`."""
        shape = (*self.patch, x.shape[-1], self.features)
        rows = math.prod(shape[:-1])

        def init(key: Array, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
            return nn.initializers.xavier_uniform()(key, (rows, shape[-1]), dtype).reshape(shape)

        x, kernel, _ = promote(x, self.param("kernel", init, shape, jnp.float32), None, dtype=self.dtype)
        tokens = patchify(x, self.patch) @ kernel.reshape(rows, -1)
        if self.use_bias:
            tokens = tokens + self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype)
        return tokens
