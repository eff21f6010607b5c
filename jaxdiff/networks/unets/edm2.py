"""EDM2's U-Net, which preserves magnitudes."""

from typing import Any, ClassVar, get_args

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from jaxdiff import trees
from jaxdiff.checks import fraction, integer, one_of
from jaxdiff.networks.inputs import (
    Cond,
    check_input,
    check_levels,
    check_settings,
    compute_types,
    read_cond,
    with_planes,
)
from jaxdiff.networks.layers.embeddings import MPFourier, TimeEmbedding
from jaxdiff.networks.layers.magnitude_block import MPBlock
from jaxdiff.networks.layers.magnitude_conditioning import MPConditioning
from jaxdiff.networks.layers.magnitudes import MPWeights, mp_cat, project_weights
from jaxdiff.networks.layers.resampling import downsample, upsample
from jaxdiff.networks.module import Network
from jaxdiff.networks.remat import Remat, rematerialised


class EDM2(Network):
    """U-Net whose activations and weights keep their magnitudes (Karras et al. 2024, arXiv 2312.02696, figure 21).

    There are no norms by groups and no biases: weights have a fixed norm, sums and concatenations are scaled, and a
    constant channel of ones stands beside the input. The norm of the weights is part of the training step: after every
    update `project` sets it (forced weight normalisation). What is learned of scales are one gain of the embedding per
    block, and one of the output. The network is meant for inputs of magnitude 1 and for the time input ln(sigma)/4, as
    the parametrization `edm` gives both. A constant or decaying rate of Adam from about 0.01 fits weights of this norm.
    The defaults are EDM2-S.

    Attributes:
      channels: channels of the first level.
      multipliers: channels of each level, as multiples of `channels`.
      num_blocks: number of residual blocks per level on the way down; there is one more on the way up.
      attention_levels: the levels whose blocks end with attention. One of the middle blocks always does.
      head_channels: channels of one head of attention.
      balance: the share of the residual branch in every block.
      attention_balance: the share of attention in its sum.
      concat_balance: the share of the skip connection where the way up joins the way down.
      condition_balance: the share of classes and vectors in the embedding.
      embedding: features of the time input.
      dropout: dropout rate, used when a `key` is given.
      out_channels: channels of the output; None for the channels of the input.
      remat: the results of blocks that are stored for reverse-mode derivatives; see `UNet`.
      dtype: compute type; see `UNet`.
    """

    takes: ClassVar[tuple[str, ...]] = ("class", "vector", "planes")
    free: ClassVar[tuple[str, ...]] = ("remat",)

    channels: int = 192
    multipliers: tuple[int, ...] = (1, 2, 3, 4)
    num_blocks: int = 3
    attention_levels: tuple[int, ...] = (2, 3)
    head_channels: int = 64
    balance: float = 0.3
    attention_balance: float = 0.3
    concat_balance: float = 0.5
    condition_balance: float = 0.5
    embedding: TimeEmbedding = MPFourier()
    dropout: float = 0.0
    out_channels: int | None = None
    remat: Remat = "none"
    dtype: str | None = None

    def __post_init__(self) -> None:
        check_settings(self.dtype, self.multipliers, num_blocks=self.num_blocks)
        integer("head_channels", self.head_channels)
        for name in ("balance", "attention_balance", "concat_balance", "condition_balance"):
            fraction(name, getattr(self, name))
        one_of("remat", self.remat, get_args(Remat))
        super().__post_init__()

    def project(self, params: PyTree) -> PyTree:
        """The parameters with the weights of every output at the magnitude 1 (equation 66)."""
        return project_weights(params)

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch *space channels"],
        time: Float[Array, " batch"] | Float[Array, "batch 2"],
        cond: Cond = None,
        key: Any = None,
    ) -> Float[Array, "batch *space out"]:
        """Evaluates the network. The arguments, the result and the errors are those of `UNet`, without tokens."""
        x = jnp.asarray(x)
        check_levels(x, self.multipliers, self.attention_levels)
        time = check_input(x, time)
        keys = None if key is None else trees.example_keys(key, x.shape[0])
        wide, dtype = compute_types(x, self.dtype)
        given = read_cond(cond, self.specs, x.shape[0], x.shape[1:-1])
        widths, window = [self.channels * m for m in self.multipliers], (3,) * (x.ndim - 2)
        embed = MPConditioning(
            self.channels, max(widths), self.embedding, self.specs, self.condition_balance, dtype, name="conditioning"
        )
        e = embed(time, given)
        block_class = rematerialised(MPBlock, self.remat)

        def block(h: Array, features: int, name: str, attention: bool = False) -> Array:
            way, shares = "down" if name.startswith("down") else "up", (self.balance, self.attention_balance)
            layer = block_class(features, way, attention, self.head_channels, *shares, self.dropout, dtype, name=name)
            result: Array = layer(h, e, keys)
            return result

        h = with_planes(x, given, self.specs, dtype)
        h = jnp.concatenate([h, jnp.ones_like(h[..., :1])], axis=-1)
        h = MPWeights(widths[0], window, dtype, name="conv_in")(h)
        hidden = [h]
        for level, width in enumerate(widths):
            if level:
                h = block(downsample(h), h.shape[-1], f"down_{level}_resample")
                hidden.append(h)
            for i in range(self.num_blocks):
                h = block(h, width, f"down_{level}_block_{i}", level in self.attention_levels)
                hidden.append(h)
        h = block(block(h, h.shape[-1], "mid_block_0", True), h.shape[-1], "mid_block_1")
        for level, width in reversed(list(enumerate(widths))):
            if level < len(widths) - 1:
                h = block(upsample(h, hidden[-1].shape[1:-1]), h.shape[-1], f"up_{level}_resample")
            for i in range(self.num_blocks + 1):
                h = mp_cat(h, hidden.pop(), self.concat_balance)
                h = block(h, width, f"up_{level}_block_{i}", level in self.attention_levels)
        features = x.shape[-1] if self.out_channels is None else self.out_channels
        gain: Array = self.param("gain_out", nn.initializers.zeros, ())
        out: Array = MPWeights(features, window, wide, name="conv_out")(h, gain)
        return out
