"""The diffusion transformer: blocks of attention over patches, which time and conditions modulate."""

from typing import Any, ClassVar, get_args

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdiff import trees
from jaxdiff.checks import not_negative, one_of, positive, require
from jaxdiff.networks.inputs import Cond, check_settings
from jaxdiff.networks.layers.attention import Implementation
from jaxdiff.networks.layers.context import Context, JoinedTokens
from jaxdiff.networks.layers.embeddings import Sinusoidal, TimeEmbedding
from jaxdiff.networks.layers.feed_forward import Activation
from jaxdiff.networks.layers.patches import PatchEmbedding, unpatchify
from jaxdiff.networks.layers.positions import Positions, SinCosPositions
from jaxdiff.networks.layers.rotary import RotaryPositions
from jaxdiff.networks.layers.stack import stack
from jaxdiff.networks.layers.transformer_block import OutputLayer, TransformerBlock
from jaxdiff.networks.module import Network
from jaxdiff.networks.remat import Remat, rematerialised
from jaxdiff.networks.transformers.entrance import enter


class DiT(Network):
    """Diffusion transformer (Peebles & Xie 2023, arXiv 2212.09748) for signals, images and videos.

    The input is cut into patches, each of which is a token. Blocks of attention and feed-forward layers follow, whose
    norms are scaled, shifted and gated by the time input, classes and vectors (adaLN-Zero). Planes are concatenated to
    the input before it is cut. Tokens are attended to by cross-attention in each block, as in PixArt-alpha (Chen et al.
    2023, arXiv 2310.00426). The defaults are DiT-XL/2 (675 million parameters with 1000 classes and learned variances).
    The input may have any size that the patch divides. The parameters of all blocks are one array with an axis of
    layers.

    Attributes:
      width: the length of a token.
      depth: number of blocks.
      heads: number of attention heads.
      patch: the size of a patch, one number for all axes or one per axis.
      mlp_ratio: the hidden width of the feed-forward layers, divided by `width`.
      feed_forward: `"gelu"`, or the gated `"geglu"` and `"swiglu"`.
      embedding: features of the time input. diffusers' DiT has `Sinusoidal(cos_first=True)`.
      embedding_features: width requested from `embedding`.
      positions: the positions that are added to the tokens; None for none.
      rope: the rotary embedding of positions in queries and keys; None for none.
      qk_norm: whether queries and keys are normalised.
      norm_eps: number added to the variances.
      feed_forward_norm_eps: the same before the feed-forward layers; None for `norm_eps`. diffusers' DiT has 1e-5.
      registers: number of learned tokens that are put before the others and left out of the output (Darcet et al. 2023,
        arXiv 2309.16588).
      condition_token: whether the vector of time and conditions is a further token, as in U-ViT.
      long_skips: whether the second half of the blocks is given the results of the first half, the last first, as in
        U-ViT (Bao et al. 2022, arXiv 2209.12152). The depth is then odd.
      dropout: dropout rate of the results of attention and inside the feed-forward layers, used when a `key` is given.
      out_channels: channels of the output; None for the channels of the input.
      attention: the program of attention. `"xla"`: two contractions, with all derivatives. `"cudnn"` (GPUs, in half
        precision) and `"pallas"` (TPUs): fused kernels, without forward-mode derivatives.
      unroll: whether the program holds all blocks, and no loop over them. It is larger and takes longer to compile.
      remat: the results of blocks that are stored for reverse-mode derivatives; see `UNet`.
      dtype: compute type, such as `"bfloat16"`; None for float32, or float64 if the input is float64. Parameters, norm
        statistics, the attention softmax and the last layer are always float32 or wider.
    """

    takes: ClassVar[tuple[str, ...]] = ("class", "vector", "tokens", "planes")
    free: ClassVar[tuple[str, ...]] = ("attention", "unroll", "remat")
    hidden: ClassVar[str] = r"^(\w+_)?layers?\..+\.kernel$"

    width: int = 1152
    depth: int = 28
    heads: int = 16
    patch: tuple[int, ...] = (2,)
    mlp_ratio: float = 4.0
    feed_forward: Activation = "gelu"
    embedding: TimeEmbedding = Sinusoidal(cos_first=True, endpoint=False)
    embedding_features: int = 256
    positions: Positions | None = SinCosPositions()
    rope: RotaryPositions | None = None
    qk_norm: bool = False
    norm_eps: float = 1e-6
    feed_forward_norm_eps: float | None = None
    registers: int = 0
    condition_token: bool = False
    long_skips: bool = False
    dropout: float = 0.0
    out_channels: int | None = None
    attention: Implementation = "xla"
    unroll: bool = False
    remat: Remat = "dots"
    dtype: str | None = None

    def __post_init__(self) -> None:
        check_settings(self.dtype, depth=self.depth, registers=self.registers)
        positive("mlp_ratio", self.mlp_ratio)
        not_negative("norm_eps", self.norm_eps)
        if self.feed_forward_norm_eps is not None:
            not_negative("feed_forward_norm_eps", self.feed_forward_norm_eps)
        one_of("feed_forward", self.feed_forward, get_args(Activation))
        one_of("attention", self.attention, get_args(Implementation))
        one_of("remat", self.remat, get_args(Remat))
        require(self.depth % 2 == 1 or not self.long_skips, "depth", self.depth, "odd integers with long_skips = True")
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
          x: `[batch, *space, channels]` with one, two or three axes of space, of multiples of the patch.
          time: the time input, `[batch]`, in the units that `embedding` expects; or two times `[batch, 2]`, for a
            network that was initialised with two.
          cond: a mapping of the names of the conditions to their values: classes, integers `[batch]`; vectors
            `[batch, d]`; planes `[batch, *space, c]`; tokens, mappings of `values` `[batch, n, d]` and `mask`
            `[batch, n]` with at least one visible token. With one condition, the bare value. A vector may be left out
            and is then zero.
          key: for dropout, as for `UNet`.

        Returns:
          `[batch, *space, out_channels]`, in float32, or in float64 if `x` is float64. The output of a freshly
          initialised network is zero.

        Raises:
          ValueError: a shape, a condition or a field is not allowed, or `attention` does not run here.
          TypeError: `x`, a vector, planes or the values of tokens are not floating-point, classes are not integers, or
            `key` is not a random key.
        """
        x = jnp.asarray(x)
        inside = enter(self, x, time, cond, key)
        dtype, wide, c, grid = inside.dtype, inside.wide, inside.c, inside.grid
        h = PatchEmbedding(self.width, inside.patch, dtype, name="patch_in")(inside.x)
        if self.positions is not None:
            h = h + self.positions(self, grid, self.width).astype(dtype)
        h = h.reshape(h.shape[0], -1, self.width)
        further = self._further_tokens(c)
        h = jnp.concatenate([*further, h], axis=1)
        count = sum(tokens.shape[1] for tokens in further)
        rotation = None
        if self.rope is not None:
            rotation = self.rope(grid, self.width // self.heads).after(count)
        context = JoinedTokens(self.specs, dtype, self.width, mlp=True, name="context")(inside.given)

        h = self._blocks(h, c, context, rotation, inside.keys, dtype)[:, count:]
        channels = x.shape[-1] if self.out_channels is None else self.out_channels
        h = OutputLayer(inside.patch_size * channels, "layer", self.norm_eps, wide, name="out")(h, c)
        return unpatchify(h.reshape(h.shape[0], *grid, -1), inside.patch)

    def _further_tokens(self, c: Array) -> list[Array]:
        """The tokens that stand before those of the input."""
        tokens = [c[:, None]] if self.condition_token else []
        if self.registers:
            init = nn.initializers.normal(0.02)
            registers: Any = self.param("registers", init, (self.registers, self.width))
            tokens.append(jnp.broadcast_to(registers.astype(c.dtype), (c.shape[0], *registers.shape)))
        return tokens

    def _blocks(self, h: Array, c: Array, context: Context | None, rotation: Any, keys: Any, dtype: Any) -> Array:
        eps = self.norm_eps if self.feed_forward_norm_eps is None else self.feed_forward_norm_eps

        def block(name: str, loop: bool = True) -> Any:
            return rematerialised(TransformerBlock, self.remat, loop and not self.unroll)(
                heads=self.heads,
                hidden=int(self.width * self.mlp_ratio),
                activation=self.feed_forward,
                norm="layer",
                qk_norm=self.qk_norm,
                norm_eps=self.norm_eps,
                feed_forward_norm_eps=eps,
                dropout=self.dropout,
                attention=self.attention,
                dtype=dtype,
                name=name,
            )

        def body(layer: Any, h: Array, i: Any, skip: Array | None) -> tuple[Array, Array | None]:
            own = None if keys is None else trees.fold_in(keys, i)
            h = layer(h, c, context, rotation, own, skip)
            return h, h if self.long_skips else None

        if not self.long_skips:
            return stack(block("layers"), self.depth, body, h, unroll=self.unroll)[0]
        half = self.depth // 2
        h, skips = stack(block("in_layers"), half, body, h, unroll=self.unroll)
        h, _ = body(block("mid_layer", loop=False), h, half, None)
        last_first = None if skips is None else skips[::-1]
        return stack(block("out_layers"), half, body, h, last_first, first=half + 1, unroll=self.unroll)[0]
