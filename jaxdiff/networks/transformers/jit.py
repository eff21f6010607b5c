"""JiT: a transformer over large patches of pixels."""

from typing import Any, ClassVar, get_args

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdiff import trees
from jaxdiff.checks import integer, not_negative, one_of, positive
from jaxdiff.networks.inputs import Cond, check_settings
from jaxdiff.networks.layers.attention import Implementation
from jaxdiff.networks.layers.dense import Dense
from jaxdiff.networks.layers.embeddings import Sinusoidal, TimeEmbedding
from jaxdiff.networks.layers.patches import PatchEmbedding, unpatchify
from jaxdiff.networks.layers.positions import Positions, SinCosPositions
from jaxdiff.networks.layers.rotary import Rope, RotaryPositions
from jaxdiff.networks.layers.stack import stack
from jaxdiff.networks.layers.transformer_block import OutputLayer, TransformerBlock
from jaxdiff.networks.module import Network
from jaxdiff.networks.remat import Remat, rematerialised
from jaxdiff.networks.transformers.entrance import enter


class JiT(Network):
    """Transformer over large patches of pixels, which predicts clean data (Li & He 2025, arXiv 2511.13720).

    A patch of many pixels passes through a bottleneck of few numbers to become a token. The blocks are those of DiT
    with root mean square norms, normalised queries and keys, rotary positions and SwiGLU. From block `context_start`
    on, the sequence also has `context_tokens` tokens: copies of the embedding of classes and vectors, each with a
    learned position of its own. The network is meant for the parametrization `x0` with the time input "raw" on the
    process `flow`. The defaults are JiT-B/16 (131 million parameters with 1000 classes).

    Attributes:
      width: the length of a token.
      depth: number of blocks.
      heads: number of attention heads.
      patch: the size of a patch, one number for all axes or one per axis.
      bottleneck: the numbers to which a patch is reduced before it becomes a token.
      context_tokens: number of tokens that hold classes and vectors.
      context_start: the block before which these tokens are put in front of the sequence.
      mlp_ratio: the hidden width of an equally large plain feed-forward layer, divided by `width`; SwiGLU has 2/3 of
        it.
      embedding: features of the time input.
      embedding_features: width requested from `embedding`.
      positions: the positions that are added to the tokens; None for none.
      rope: the rotary embedding of positions in queries and keys; None for none.
      norm_eps: number added to the mean squares.
      dropout: dropout rate in the middle half of the blocks, used when a `key` is given.
      out_channels: channels of the output; None for the channels of the input.
      attention: the program of attention; see `DiT`.
      unroll: whether the program holds all blocks, and no loop over them.
      remat: the results of blocks that are stored for reverse-mode derivatives; see `UNet`.
      dtype: compute type; see `DiT`.
    """

    takes: ClassVar[tuple[str, ...]] = ("class", "vector", "planes")
    free: ClassVar[tuple[str, ...]] = ("attention", "unroll", "remat")
    hidden: ClassVar[str] = r"^(\w+_)?layers\..+\.kernel$"

    width: int = 768
    depth: int = 12
    heads: int = 12
    patch: tuple[int, ...] = (16,)
    bottleneck: int = 128
    context_tokens: int = 32
    context_start: int = 4
    mlp_ratio: float = 4.0
    embedding: TimeEmbedding = Sinusoidal(cos_first=True, endpoint=False)
    embedding_features: int = 256
    positions: Positions | None = SinCosPositions()
    rope: RotaryPositions | None = Rope()
    norm_eps: float = 1e-6
    dropout: float = 0.0
    out_channels: int | None = None
    attention: Implementation = "xla"
    unroll: bool = False
    remat: Remat = "dots"
    dtype: str | None = None

    def __post_init__(self) -> None:
        check_settings(self.dtype, depth=self.depth, context_tokens=self.context_tokens)
        integer("context_start", self.context_start, least=0, most=self.depth)
        integer("bottleneck", self.bottleneck)
        positive("mlp_ratio", self.mlp_ratio)
        not_negative("norm_eps", self.norm_eps)
        one_of("attention", self.attention, get_args(Implementation))
        one_of("remat", self.remat, get_args(Remat))
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch *space channels"],
        time: Float[Array, " batch"] | Float[Array, "batch 2"],
        cond: Cond = None,
        key: Any = None,
    ) -> Float[Array, "batch *space out"]:
        """Evaluates the network. The arguments, the result and the errors are those of `DiT`, without tokens."""
        x = jnp.asarray(x)
        inside = enter(self, x, time, cond, key)
        dtype, c, grid, init = inside.dtype, inside.c, inside.grid, nn.initializers.xavier_uniform()
        h = PatchEmbedding(self.bottleneck, inside.patch, dtype, use_bias=False, name="patch_in")(inside.x)
        h = Dense(self.width, dtype=dtype, kernel_init=init, name="bottleneck_in")(h)
        if self.positions is not None:
            h = h + self.positions(self, grid, self.width).astype(dtype)
        h = h.reshape(h.shape[0], -1, self.width)
        rotation = None if self.rope is None else self.rope(grid, self.width // self.heads)

        layer_class = rematerialised(TransformerBlock, self.remat, loop=not self.unroll)
        quarter = self.depth // 4

        def body(layer: Any, h: Array, i: Array, _: None) -> tuple[Array, None]:
            own = None if inside.keys is None else trees.fold_in(inside.keys, i)
            return layer(h, c, None, rotation, own, None, (i >= quarter) & (i < 3 * quarter)), None

        def run(h: Array, first: int, count: int, name: str) -> Array:
            layer = layer_class(
                heads=self.heads,
                hidden=int(int(self.width * self.mlp_ratio) * 2 / 3),
                activation="swiglu",
                norm="rms",
                qk_norm=True,
                norm_eps=self.norm_eps,
                feed_forward_norm_eps=self.norm_eps,
                dropout=self.dropout,
                attention=self.attention,
                dtype=dtype,
                name=name,
            )
            return stack(layer, count, body, h, first=first, unroll=self.unroll)[0]

        start, further = self.context_start, self.context_tokens
        h = run(h, 0, start, "early_layers")
        if further:
            init = nn.initializers.normal(0.02)
            places: Any = self.param("context_positions", init, (further, self.width))
            h = jnp.concatenate([inside.told[:, None] + places.astype(dtype), h], axis=1)
            rotation = None if rotation is None else rotation.after(further)
        h = run(h, start, self.depth - start, "layers")[:, further:]
        channels = x.shape[-1] if self.out_channels is None else self.out_channels
        h = OutputLayer(inside.patch_size * channels, "rms", self.norm_eps, inside.wide, name="out")(h, c)
        return unpatchify(h.reshape(h.shape[0], *grid, -1), inside.patch)
