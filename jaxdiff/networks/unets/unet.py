"""The U-Net of diffusion models: one code path for signals, images, volumes and videos."""

from typing import Any, ClassVar, Literal, get_args

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdiff.checks import integer, not_negative, one_of, positive, require
from jaxdiff.networks.inputs import Cond, check_settings
from jaxdiff.networks.layers.conditioning import Vectors
from jaxdiff.networks.layers.embeddings import Sinusoidal, TimeEmbedding
from jaxdiff.networks.module import Network
from jaxdiff.networks.remat import Remat
from jaxdiff.networks.unets.halves import Bottom, way_down, way_up
from jaxdiff.networks.unets.levels import Levels


class UNet(Network):
    """U-Net of residual blocks and attention (Ho et al. 2020 and later) for signals, images, volumes and videos.

    It is told time, classes, vectors, planes and tokens. Planes are concatenated to the input, as in SR3 (Saharia et
    al. 2021, arXiv 2104.07636). The attention layers read tokens. `Conditioning` embeds everything else. The input
    decides the number of spatial dimensions. The defaults are the DDPM network for CIFAR-10 (35.7 million parameters);
    `jaxdiff.networks.published` has others. Level 0 has the full resolution, and every further level has half the
    resolution of the level before, rounded up. The output has the size of the input, which may be any size.

    Attributes:
      channels: base width; level i has `channels * multipliers[i]` channels.
      multipliers: one integer per level.
      num_blocks: residual blocks per level on the way down, one number or one per level; there is one more on the way
        up.
      attention_levels: indices of the levels whose blocks are followed by attention.
      mid_attention: whether there is attention between the two blocks at the bottom.
      decoder_attention: on the way up, attention follows `"every"` block of an attention level (DDPM, ADM), or only the
        `"last"` block (score_sde, EDM).
      head_channels: channels of an attention head; None for one head.
      heads: the number of attention heads of each level, in the place of `head_channels`; `()` for none. The bottom has
        the heads of the last level.
      tokens: how attention reads tokens. `"cross"`: with tokens, every attention layer is a transformer of
        self-attention, cross-attention and a gated dense layer (Stable Diffusion). `"joint"`: the keys and values of
        the tokens stand before those of the positions (GLIDE, Imagen).
      transformer_depths: with `"cross"`, the blocks of a transformer at each level; `()` for one. The bottom has the
        depth of the last level.
      context_width: the width to which a dense layer brings the tokens of each condition; None for no dense layer if
        there is one condition of tokens, and for the greatest width of several.
      context_norm: whether tokens are normalised before attention reads them (Imagen).
      embedding: features of the time input.
      embedding_features: the number of these features, a quarter of the width of the embedding; None for `channels`.
      vectors: where vectors are added to the embedding. `"input"`: each by a projection, before the layers of time
        (EDM). `"output"`: all together by two dense layers, after the layers of time (Stable Diffusion XL).
      scale_shift: whether the conditions scale and shift the second norm of a block (ADM), or are added before it.
      skip_scale: factor of every residual sum; sqrt(1/2) in score_sde and EDM.
      concat_scale: factor of the hidden states that the way up concatenates; sqrt(1/2) in Imagen's efficient U-Net.
      dropout: dropout rate in the residual blocks, used when a `key` is given.
      resampling: `"conv"`: a strided convolution down, and pixel repetition with a convolution up (DDPM).
        `"residual"`: resampling inside a residual block (score_sde, EDM, ADM).
      resample_filter: taps of `"residual"` resampling and of the pyramids: `(1, 1)`, or `(1, 3, 3, 1)` in NCSN++.
      resample_projection: whether the shortcut of every resampling block has a dense layer (score_sde, EDM).
      resample_first: whether every level halves the resolution before its blocks and doubles it after them, level 0
        too (Imagen's efficient U-Net, Saharia et al. 2022, appendix B). The way up then has as many blocks as the way
        down, and concatenates the last hidden state of each level only.
      downsample_padding: padding of the strided convolution on axes of even length. `"same"`: one pixel at the far end
        (DDPM; padding 0 in diffusers). `"symmetric"`: one pixel at both ends. Odd axes always have one at both ends.
      input_residual: whether every level adds the input, convolved and halved again, to the hidden state (NCSN++). This
        needs `resampling="residual"`.
      input_skip: whether every level adds a projection of the input, halved, to the hidden state (NCSN++ for 256
        pixels).
      output_skip: whether the output is the sum of an output of every level, doubled (NCSN++ for 256 pixels).
      norm_groups: groups of every group normalisation; None for at most 32 groups of at least 4 channels.
      norm_eps: number added to the variances.
      out_channels: channels of the output; None for the channels of the input.
      temporal: whether the input is a video `[batch, frames, height, width, channels]`, whose blocks see single frames,
        and whose attention layers are each followed by attention over frames (Ho et al. 2022, arXiv 2204.03458). An
        image `[batch, height, width, channels]` is a video of one frame.
      loose_images: the name of a condition of classes. The frames of an example of class 1 are images that have nothing
        to do with each other, so that images can fill a batch of videos; empty for no such condition.
      perturbed: the names of attention layers in which every position attends only to itself; see
        `guidance.PerturbedAttention`.
      skipped: the names of layers that are left out; see `guidance.SkipLayer`.
      remat: the results of residual blocks and attention that are stored for reverse-mode derivatives. `"none"`: all
        results. `"dots"`: the results of convolutions and dense layers; norms, activations, dropout and attention
        weights are computed again, which takes an accelerator little time. `"blocks"`: only the inputs, for a third
        more arithmetic. The setting does not change parameters, results or derivatives.
      dtype: compute type, such as `"bfloat16"`; None for float32, or float64 if the input is float64. Parameters, norm
        statistics, the attention softmax and the last convolution are always float32 or wider.
    """

    takes: ClassVar[tuple[str, ...]] = ("class", "vector", "tokens", "planes")
    free: ClassVar[tuple[str, ...]] = ("remat",)
    hidden: ClassVar[str] = r"^(?!(conv_in|conditioning|context|conv_out(_\d+)?)\.).+\.kernel$"

    channels: int = 128
    multipliers: tuple[int, ...] = (1, 2, 2, 2)
    num_blocks: int | tuple[int, ...] = 2
    attention_levels: tuple[int, ...] = (1,)
    mid_attention: bool = True
    decoder_attention: Literal["every", "last"] = "every"
    head_channels: int | None = None
    heads: tuple[int, ...] = ()
    tokens: Literal["cross", "joint"] = "cross"
    transformer_depths: tuple[int, ...] = ()
    context_width: int | None = None
    context_norm: bool = False
    embedding: TimeEmbedding = Sinusoidal()
    embedding_features: int | None = None
    vectors: Vectors = "input"
    scale_shift: bool = False
    skip_scale: float = 1.0
    concat_scale: float = 1.0
    dropout: float = 0.0
    resampling: Literal["conv", "residual"] = "conv"
    resample_filter: tuple[float, ...] = (1, 1)
    resample_projection: bool = False
    resample_first: bool = False
    downsample_padding: Literal["same", "symmetric"] = "same"
    input_residual: bool = False
    input_skip: bool = False
    output_skip: bool = False
    norm_groups: int | None = None
    norm_eps: float = 1e-6
    out_channels: int | None = None
    temporal: bool = False
    loose_images: str = ""
    perturbed: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    remat: Remat = "none"
    dtype: str | None = None

    def __post_init__(self) -> None:
        blocks = self.num_blocks if isinstance(self.num_blocks, tuple) else (self.num_blocks,)
        for number in blocks:
            check_settings(self.dtype, self.multipliers, num_blocks=number)
        for name in ("heads", "transformer_depths"):
            for number in getattr(self, name):
                integer(name, number, most=1000)
        for name in ("context_width", "embedding_features"):
            if getattr(self, name) is not None:
                integer(name, getattr(self, name))
        not_negative("norm_eps", self.norm_eps)
        positive("skip_scale", self.skip_scale)
        positive("concat_scale", self.concat_scale)
        one_of("decoder_attention", self.decoder_attention, ("every", "last"))
        one_of("tokens", self.tokens, ("cross", "joint"))
        one_of("vectors", self.vectors, get_args(Vectors))
        one_of("resampling", self.resampling, ("conv", "residual"))
        one_of("downsample_padding", self.downsample_padding, ("same", "symmetric"))
        one_of("remat", self.remat, get_args(Remat))
        fits = not (self.input_residual and self.resampling == "conv")
        require(fits, "input_residual", self.input_residual, "False with resampling = 'conv'")
        fits = not (self.input_skip and self.input_residual)
        require(fits, "input_skip", self.input_skip, "False with input_residual = True")
        fits = not (self.resample_first and (self.input_residual or self.input_skip or self.output_skip))
        require(fits, "resample_first", self.resample_first, "False with input_residual, input_skip or output_skip")
        fits = not self.resample_first or all(blocks)
        require(fits, "num_blocks", self.num_blocks, "integers of at least 1 with resample_first = True")
        require(not self.loose_images or self.temporal, "loose_images", self.loose_images, "'' without temporal")
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch *space channels"],
        time: Float[Array, " batch"] | Float[Array, "batch 2"],
        cond: Cond = None,
        key: Any = None,
        side: Bottom | None = None,
    ) -> Float[Array, "batch *space out"]:
        """Evaluates the network.

        Args:
          x: `[batch, *space, channels]` with one, two or three axes of space; with `temporal`, a video or an image.
          time: the time input, `[batch]`, in the units that `embedding` expects; or two times `[batch, 2]`, for a
            network that was initialised with two.
          cond: a mapping of the names of the conditions to their values: classes, integers `[batch]`; vectors
            `[batch, d]`; planes `[batch, *space, c]`; tokens `{"values": [batch, n, d], "mask": [batch, n]}` with at
            least one visible token. With one condition that is no tokens, the bare value. A vector may be left out and
            is then zero. A class above the null class gives NaN, because values under `jit` are unknown and cannot
            raise an error.
          key: for dropout: None for no dropout; one key, from which example i gets `fold_in(key, i)`; or one key per
            example `[batch]`. The masks of an example depend on its key and not on the rest of the batch.
          side: what a side network adds to the hidden states of the way down; None for nothing.

        Returns:
          `[batch, *space, out_channels]`, in float32, or in float64 if `x` is float64. The output of a freshly
          initialised network is zero.

        Raises:
          ValueError: a shape, a condition or a field is not allowed.
          TypeError: `x`, a vector, planes or the values of tokens are not floating-point, classes are not integers, or
            `key` is not a random key.
        """
        x = jnp.asarray(x)
        layers = Levels(self, x, time, cond, key)
        bottom = way_down(self, layers, layers.inputs.x)
        if side is not None:
            bottom = bottom.plus(side)
        features = x.shape[-1] if self.out_channels is None else self.out_channels
        out = way_up(self, layers, bottom, features, layers.inputs.wide)
        layers.check_weakened()
        return out.reshape(*x.shape[:-1], features) if self.temporal else out
