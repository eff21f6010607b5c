"""The U-Net of diffusion models: one code path for signals, images and volumes."""

from functools import partial
from typing import Any, ClassVar, Literal, get_args

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdiff.checks import not_negative, one_of, positive, require
from jaxdiff.networks.inputs import Cond, check_settings
from jaxdiff.networks.layers.blocks import conv
from jaxdiff.networks.layers.embeddings import Sinusoidal, TimeEmbedding
from jaxdiff.networks.layers.norms import GroupNorm
from jaxdiff.networks.layers.resampling import downsample, upsample
from jaxdiff.networks.module import Network
from jaxdiff.networks.remat import Remat
from jaxdiff.networks.unets.entrance import enter


class UNet(Network):
    """U-Net of residual blocks and self-attention (Ho et al. 2020 and later) for signals, images and volumes.

    It is told time, classes, vectors and planes. Planes are concatenated to the input, as in SR3 (Saharia et al. 2021,
    arXiv 2104.07636); `Conditioning` embeds everything else. The input decides the number of spatial dimensions.
    The defaults are the DDPM network for CIFAR-10 (35.7 million parameters). Level 0 has the full resolution, and every
    further level has half the resolution of the level before, rounded up. The output has the size of the input, which
    may be any size.

    Attributes:
      channels: base width; level i has `channels * multipliers[i]` channels.
      multipliers: one integer per level.
      num_blocks: residual blocks per level on the way down; there is one more on the way up.
      attention_levels: indices of the levels whose blocks are followed by self-attention.
      mid_attention: whether there is self-attention between the two blocks at the bottom.
      decoder_attention: on the way up, attention follows `"every"` block of an attention level (DDPM, ADM), or only the
        `"last"` block (score_sde, EDM).
      head_channels: channels of an attention head; None for one head.
      embedding: features of the time input.
      scale_shift: whether the conditions scale and shift the second norm of a block (ADM), or are added before it.
      skip_scale: factor of every residual sum; sqrt(1/2) in score_sde and EDM.
      dropout: dropout rate in the residual blocks, used when a `key` is given.
      resampling: `"conv"`: a strided convolution down, and pixel repetition with a convolution up (DDPM).
        `"residual"`: resampling inside a residual block (score_sde, EDM, ADM).
      resample_filter: taps of `"residual"` resampling: `(1, 1)`, or `(1, 3, 3, 1)` in NCSN++.
      resample_projection: whether the shortcut of every resampling block has a dense layer (score_sde, EDM).
      downsample_padding: padding of the strided convolution on axes of even length. `"same"`: one pixel at the far end
        (DDPM; padding 0 in diffusers). `"symmetric"`: one pixel at both ends. Odd axes always have one at both ends.
      input_residual: whether every level adds the input, convolved and halved again, to the hidden state (NCSN++). This
        needs `resampling="residual"`.
      norm_groups: groups of every group normalisation; None for at most 32 groups of at least 4 channels.
      norm_eps: number added to the variances.
      out_channels: channels of the output; None for the channels of the input.
      remat: the results of residual blocks and attention that are stored for reverse-mode derivatives. `"none"`: all
        results. `"dots"`: the results of convolutions and dense layers; norms, activations, dropout and attention
        weights are computed again, which takes an accelerator little time. `"blocks"`: only the inputs, for a third
        more arithmetic. The setting does not change parameters, results or derivatives.
      dtype: compute type, such as `"bfloat16"`; None for float32, or float64 if the input is float64. Parameters, norm
        statistics, the attention softmax and the last convolution are always float32 or wider.
    """

    takes: ClassVar[tuple[str, ...]] = ("class", "vector", "planes")
    free: ClassVar[tuple[str, ...]] = ("remat",)

    channels: int = 128
    multipliers: tuple[int, ...] = (1, 2, 2, 2)
    num_blocks: int = 2
    attention_levels: tuple[int, ...] = (1,)
    mid_attention: bool = True
    decoder_attention: Literal["every", "last"] = "every"
    head_channels: int | None = None
    embedding: TimeEmbedding = Sinusoidal()
    scale_shift: bool = False
    skip_scale: float = 1.0
    dropout: float = 0.0
    resampling: Literal["conv", "residual"] = "conv"
    resample_filter: tuple[float, ...] = (1, 1)
    resample_projection: bool = False
    downsample_padding: Literal["same", "symmetric"] = "same"
    input_residual: bool = False
    norm_groups: int | None = None
    norm_eps: float = 1e-6
    out_channels: int | None = None
    remat: Remat = "none"
    dtype: str | None = None

    def __post_init__(self) -> None:
        check_settings(self.dtype, self.multipliers, num_blocks=self.num_blocks)
        not_negative("norm_eps", self.norm_eps)
        positive("skip_scale", self.skip_scale)
        one_of("decoder_attention", self.decoder_attention, ("every", "last"))
        one_of("resampling", self.resampling, ("conv", "residual"))
        one_of("downsample_padding", self.downsample_padding, ("same", "symmetric"))
        one_of("remat", self.remat, get_args(Remat))
        fits = not (self.input_residual and self.resampling == "conv")
        require(fits, "input_residual", self.input_residual, "False with resampling = 'conv'")
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch *space channels"],
        time: Float[Array, " batch"] | Float[Array, "batch 2"],
        cond: Cond = None,
        key: Any = None,
    ) -> Float[Array, "batch *space out"]:
        """Evaluates the network.

        Args:
          x: `[batch, *space, channels]` with one, two or three axes of space.
          time: the time input, `[batch]`, in the units that `embedding` expects; or two times `[batch, 2]`, for a
            network that was initialised with two.
          cond: a mapping of the names of the conditions to their values: classes, integers `[batch]`; vectors
            `[batch, d]`; planes `[batch, *space, c]`. With one condition, the bare value. A vector may be left out and
            is then zero. A class above the null class gives NaN, because values under `jit` are unknown and cannot
            raise an error.
          key: for dropout: None for no dropout; one key, from which example i gets `fold_in(key, i)`; or one key per
            example `[batch]`. The masks of an example depend on its key and not on the rest of the batch.

        Returns:
          `[batch, *space, out_channels]`, in float32, or in float64 if `x` is float64. The output of a freshly
          initialised network is zero.

        Raises:
          ValueError: a shape, a condition or a field is not allowed.
          TypeError: `x`, a vector or planes are not floating-point, classes are not integers, or `key` is not a random
            key.
        """
        x = jnp.asarray(x)
        pyramid, block, attention, wide, dtype = enter(
            self, x, time, cond, key, skip_scale=self.skip_scale, remat=self.remat
        )
        resampling_block = partial(block, project=self.resample_projection)
        halve = partial(downsample, taps=self.resample_filter)
        h = conv(pyramid, self.channels, dtype, "conv_in")
        skips = [h]
        for level, multiplier in enumerate(self.multipliers):
            width = self.channels * multiplier
            for i in range(self.num_blocks):
                h = block(h, width, f"down_{level}_block_{i}")
                if level in self.attention_levels:
                    h = attention(h, f"down_{level}_attention_{i}")
                skips.append(h)
            if level == len(self.multipliers) - 1:
                break
            name = f"down_{level}_resample"
            if self.resampling == "conv":
                padding = "SAME" if self.downsample_padding == "same" else 1
                h = conv(h, width, dtype, name, strides=2, padding=padding)
            else:
                h = resampling_block(h, width, name, resample=halve)
            if self.input_residual:
                pyramid = halve(conv(pyramid, width, dtype, f"down_{level}_input"))
                h = pyramid = (h + pyramid) * self.skip_scale
            skips.append(h)

        h = block(h, width, "mid_block_0")
        if self.mid_attention:
            h = attention(h, "mid_attention")
        h = block(h, width, "mid_block_1")

        for level in reversed(range(len(self.multipliers))):
            width = self.channels * self.multipliers[level]
            for i in range(self.num_blocks + 1):
                h = jnp.concatenate([h, skips.pop()], axis=-1)
                h = block(h, width, f"up_{level}_block_{i}")
                if level in self.attention_levels and (self.decoder_attention == "every" or i == self.num_blocks):
                    h = attention(h, f"up_{level}_attention_{i}")
            if level == 0:
                break
            name, size = f"up_{level}_resample", skips[-1].shape[1:-1]
            if self.resampling == "conv":
                h = conv(upsample(h, size), width, dtype, name)
            else:
                double = partial(upsample, size=size, taps=self.resample_filter)
                h = resampling_block(h, width, name, resample=double)

        h = nn.silu(GroupNorm(self.norm_groups, self.norm_eps, wide, name="norm_out")(h))
        return conv(h, x.shape[-1] if self.out_channels is None else self.out_channels, wide, "conv_out", zero=True)
