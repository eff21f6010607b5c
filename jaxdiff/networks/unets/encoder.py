"""The way down of the U-Net as a network of its own, which gives one vector per example."""

from functools import partial
from typing import Any, ClassVar, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdiff.checks import message, not_negative
from jaxdiff.networks.inputs import Cond, check_settings
from jaxdiff.networks.layers.attention import SelfAttention
from jaxdiff.networks.layers.blocks import conv
from jaxdiff.networks.layers.dense import Dense
from jaxdiff.networks.layers.embeddings import Sinusoidal, TimeEmbedding
from jaxdiff.networks.layers.norms import GroupNorm
from jaxdiff.networks.layers.resampling import downsample
from jaxdiff.networks.module import Network
from jaxdiff.networks.unets.entrance import enter, residual_blocks


class Encoder(Network):
    """Residual blocks that halve the resolution, and a mean over positions: for classifiers and embeddings.

    The layers are those of the U-Net's way down, as in the noisy classifiers of ADM (Dhariwal & Nichol 2021). The last
    hidden state is normalised, averaged over its positions and passed to a dense layer. The input may have any size and
    one to three axes of space. A classifier of clean data is given the same time for all examples, such as 0.

    Attributes:
      channels: base width; level i has `channels * multipliers[i]` channels.
      multipliers: one integer per level; every further level has half the resolution of the level before, rounded up.
      num_blocks: residual blocks per level, beside the block that halves the resolution.
      attention_levels: indices of the levels whose blocks are followed by self-attention.
      head_channels: channels of an attention head; None for one head.
      embedding: features of the time input.
      scale_shift: whether time and conditions scale and shift the second norm of a block, or are added before it.
      dropout: dropout rate in the residual blocks, used when a `key` is given.
      norm_groups: groups of every group normalisation; None for at most 32 groups of at least 4 channels.
      norm_eps: number added to the variances.
      features: length of the output; None for the length that the model needs.
      dtype: compute type, such as `"bfloat16"`; None for float32, or float64 if the input is float64.
    """

    takes: ClassVar[tuple[str, ...]] = ("class", "vector", "planes")
    gives: ClassVar[Literal["vector"]] = "vector"
    output_length: ClassVar[str] = "features"

    channels: int = 64
    multipliers: tuple[int, ...] = (1, 2, 4)
    num_blocks: int = 1
    attention_levels: tuple[int, ...] = ()
    head_channels: int | None = None
    embedding: TimeEmbedding = Sinusoidal()
    scale_shift: bool = False
    dropout: float = 0.0
    norm_groups: int | None = None
    norm_eps: float = 1e-6
    features: int | None = None
    dtype: str | None = None

    def __post_init__(self) -> None:
        check_settings(self.dtype, self.multipliers, num_blocks=self.num_blocks)
        not_negative("norm_eps", self.norm_eps)
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch *space channels"],
        time: Float[Array, " batch"] | Float[Array, "batch 2"],
        cond: Cond = None,
        key: Any = None,
    ) -> Float[Array, "batch features"]:
        """Evaluates the network. The arguments and the errors are those of `UNet`.

        Returns:
          `[batch, features]`, in float32, or in float64 if `x` is float64.

        Raises:
          ValueError: `features` is None.
        """
        if self.features is None:
            raise ValueError(message("features", None, "integers of at least 1, which `giving` sets"))
        inputs = enter(self, jnp.asarray(x), time, cond, key)
        block = residual_blocks(self, inputs)
        attention = partial(SelfAttention, self.head_channels, self.norm_groups, self.norm_eps, 1.0, inputs.dtype)
        h = conv(inputs.x, self.channels, inputs.dtype, "conv_in")
        for level, multiplier in enumerate(self.multipliers):
            width = self.channels * multiplier
            if level > 0:
                h = block(h, width, f"down_{level - 1}_resample", resample=downsample)
            for i in range(self.num_blocks):
                h = block(h, width, f"down_{level}_block_{i}")
                if level in self.attention_levels:
                    h = attention(name=f"down_{level}_attention_{i}")(h)

        h = nn.silu(GroupNorm(self.norm_groups, self.norm_eps, inputs.wide, name="norm_out")(h))
        h = h.reshape(h.shape[0], -1, h.shape[-1]).mean(axis=1)
        return Dense(self.features, dtype=inputs.wide, name="dense_out")(h)
