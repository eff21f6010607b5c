"""Group normalisation."""

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from jaxdiff.checks import require


def group_count(channels: int, groups: int | None) -> int:
    """The number of groups for `channels` channels: `groups`, or the result of a rule if `groups` is None.

    The rule chooses the largest divisor of `channels` that is at most 32 and leaves at least 4 channels per group. With
    fewer than 4 channels there is one group. From 128 channels on, the rule gives the 32 groups of the published
    networks where 32 divides `channels`. Groups of one channel would erase an input of one pixel.

    Raises:
      ValueError: `groups` does not divide `channels`.
    """
    if groups is None:
        return max(g for g in range(1, max(1, min(32, channels // 4)) + 1) if channels % g == 0)
    require(groups >= 1 and channels % groups == 0, "norm_groups", groups, f"divisors of {channels} channels, or None")
    return groups


class GroupNorm(nn.Module):
    """Group normalisation (Wu & He 2018): mean and variance per example, over space and the channels of a group.

    Mean and variance are computed in float32 or wider, and the variance from centred values. Each mean is taken over
    space first and then over the channels of a group. On a CPU this takes half the time of one mean over both.

    Attributes:
      groups: number of groups, or None for the rule of `group_count`.
      eps: number added to the variance.
      dtype: type of the result.
    """

    groups: int | None
    eps: float
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "batch *space channels"]) -> Float[Array, "batch *space channels"]:
        """Normalises `x` `[batch, *space, channels]`; the result has the same shape."""
        batch, channels = x.shape[0], x.shape[-1]
        groups = group_count(channels, self.groups)
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))

        def group_mean(values: Array) -> Array:
            means = values.mean(axis=1).reshape(batch, groups, -1).mean(axis=-1)
            return jnp.repeat(means, channels // groups, axis=-1)[:, None]

        flat = x.reshape(batch, -1, channels).astype(jnp.promote_types(x.dtype, jnp.float32))
        centred = flat - group_mean(flat)
        gain = scale[None, None] * lax.rsqrt(group_mean(jnp.square(centred)) + self.eps)
        return (centred * gain + bias[None, None]).reshape(x.shape).astype(self.dtype)
