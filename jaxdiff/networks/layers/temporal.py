"""Attention over the frames of a video, at every position of space alone."""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from jaxdiff.checks import require
from jaxdiff.networks.layers.attention import attend
from jaxdiff.networks.layers.dense import Dense
from jaxdiff.networks.layers.embeddings import Sinusoidal
from jaxdiff.networks.layers.norms import GroupNorm


class TemporalAttention(nn.Module):
    """Residual multi-head self-attention over frames (Ho et al. 2022, arXiv 2204.03458, section 3).

        y = x + W_out attend(W_qkv (norm(x) + p))

    `W_out` starts at zero. p has sinusoids of the index of the frame, so that clips may be longer than in training. The
    frames of an example that are loose images attend only to themselves, and each has the index 0. A loose image is
    therefore treated as a video of one frame.

    Attributes:
      frames: the number of frames of a video.
      head_channels: channels of one head; None for a single head.
      norm_groups: groups of the group normalisation; None for the rule of `group_count`.
      norm_eps: number added to the variance in the group normalisation.
      dtype: compute type; parameters are float32.
    """

    frames: int
    head_channels: int | None
    norm_groups: int | None
    norm_eps: float
    dtype: DTypeLike

    @nn.compact
    def __call__(
        self, x: Float[Array, "frames *space channels"], loose: Bool[Array, " batch"] | None = None
    ) -> Float[Array, "frames *space channels"]:
        """Applies the layer.

        Args:
          x: the frames of all videos, one video after the other, `[batch * frames, *space, channels]`.
          loose: the examples whose frames are loose images, `[batch]`; None for none.

        Returns:
          An array of the shape of x.

        Raises:
          ValueError: `head_channels` does not divide the channels.
        """
        channels, frames = x.shape[-1], self.frames
        size = channels if self.head_channels is None else self.head_channels
        require(size >= 1 and channels % size == 0, "head_channels", size, f"divisors of {channels} channels, or None")
        h = GroupNorm(self.norm_groups, self.norm_eps, self.dtype, name="norm")(x).reshape(-1, frames, *x.shape[1:])
        h = h.reshape(h.shape[0], frames, -1, channels)  # [batch, frames, positions, channels]
        index = jnp.arange(frames)[None]
        if loose is not None:
            index = jnp.where(loose[:, None], 0, index)
        waves = Sinusoidal()(index.reshape(-1).astype(jnp.float32), channels).reshape(*index.shape, 1, channels)
        h = Dense(3 * channels, dtype=self.dtype, name="qkv")(h + waves.astype(self.dtype))
        # Frames become the sequence of attention, and positions a part of the batch.
        h = h.swapaxes(1, 2).reshape(-1, frames, 3, channels // size, size)
        query, key, value = jnp.moveaxis(h, 2, 0)
        h = attend(query, key, value)
        if loose is not None:
            alone = jnp.repeat(loose, h.shape[0] // loose.shape[0])[:, None, None, None]
            h = jnp.where(alone, value, h)
        batch = x.shape[0] // frames
        h = h.reshape(batch, -1, frames, channels).swapaxes(1, 2).reshape(x.shape)
        return x + Dense(channels, dtype=self.dtype, kernel_init=nn.initializers.zeros, name="out")(h)
