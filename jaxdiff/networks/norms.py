"""Group normalisation."""

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float


def group_count(channels: int, groups: int | None) -> int:
    """Number of groups for `channels` channels.

    `groups=None` chooses the largest divisor of `channels` that is at most 32 and leaves at least 4 channels in a group
    (one group where there are fewer than 4 channels). From 128 channels on these are the 32 groups of the published
    networks; below, groups stay clear of a single channel, which would erase the input where there is one pixel. A
    number is taken as it is.

    Raises:
      ValueError: if `groups` does not divide `channels`.
    """
    if groups is None:
        return max(g for g in range(1, max(1, min(32, channels // 4)) + 1) if channels % g == 0)
    if groups < 1 or channels % groups:
        raise ValueError(f"norm_groups={groups} does not divide {channels} channels; allowed are divisors, or None")
    return groups


class GroupNorm(nn.Module):
    """Group normalisation (Wu & He 2018): statistics per example over all space and the channels of a group.

    Mean and variance are taken in float32 or wider, the variance from centred values. Each channel is averaged over
    space first, and then the channels of a group: on a CPU this takes half the time of both at once.

    Attributes:
      groups: number of groups, or None for the rule of `group_count`.
      eps: added to the variance.
      dtype: type of the result.
    """

    groups: int | None
    eps: float
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "batch *space channels"]) -> Float[Array, "batch *space channels"]:
        """Normalises `x` `[batch, *space, channels]`."""
        batch, channels = x.shape[0], x.shape[-1]
        groups = group_count(channels, self.groups)
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))

        def group_mean(values: Array) -> Array:
            means = values.mean(axis=1).reshape(batch, groups, -1).mean(axis=-1)
            return jnp.repeat(means, channels // groups, axis=-1)[:, None]

        flat = x.reshape(batch, -1, channels).astype(jnp.promote_types(x.dtype, jnp.float32))
        centred = flat - group_mean(flat)
        gain = scale * lax.rsqrt(group_mean(jnp.square(centred)) + self.eps)
        return (centred * gain + bias).reshape(x.shape).astype(self.dtype)
