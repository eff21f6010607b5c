"""MMDiT: the transformer of Stable Diffusion 3, in which data and text attend to each other."""

from typing import Any, ClassVar, get_args

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdiff.checks import integer, message, not_negative, one_of, positive
from jaxdiff.networks.inputs import Cond, check_settings
from jaxdiff.networks.layers.attention import Implementation
from jaxdiff.networks.layers.context import Context, JoinedTokens
from jaxdiff.networks.layers.embeddings import Sinusoidal, TimeEmbedding
from jaxdiff.networks.layers.joint_block import JointBlock
from jaxdiff.networks.layers.patches import PatchEmbedding, unpatchify
from jaxdiff.networks.layers.positions import Positions, SinCosPositions
from jaxdiff.networks.layers.stack import stack
from jaxdiff.networks.layers.transformer_block import OutputLayer
from jaxdiff.networks.module import Network
from jaxdiff.networks.remat import Remat, rematerialised
from jaxdiff.networks.transformers.entrance import enter


class MMDiT(Network):
    """Multimodal diffusion transformer (SD3, Esser et al. 2024, arXiv 2403.03206), for signals, images and videos.

    Patches of the data and tokens of the conditions are two streams with weights of their own, which attend to each
    other. Time, classes and vectors, such as pooled text, modulate both streams. Planes are concatenated to the input.
    The network needs a condition of the channel `tokens`. The defaults are the transformer of SD3-medium (2.0 billion
    parameters), whose time input runs to 1000.

    Attributes:
      width: the length of a token.
      depth: number of blocks.
      heads: number of attention heads.
      patch: the size of a patch, one number for all axes or one per axis.
      dual_depth: the number of first blocks in which the data also attend to themselves alone (13 in SD3.5-medium).
      qk_norm: whether queries and keys are normalised (SD3.5).
      mlp_ratio: the hidden width of the feed-forward layers, divided by `width`.
      embedding: features of the time input.
      embedding_features: width requested from `embedding`.
      positions: the positions that are added to the patches; None for none.
      norm_eps: number added to the variances and mean squares.
      out_channels: channels of the output; None for the channels of the input.
      attention: the program of attention; see `DiT`.
      unroll: whether the program holds all blocks, and no loop over them.
      remat: the results of blocks that are stored for reverse-mode derivatives; see `UNet`.
      dtype: compute type; see `DiT`.
    """

    takes: ClassVar[tuple[str, ...]] = ("class", "vector", "tokens", "planes")
    free: ClassVar[tuple[str, ...]] = ("attention", "unroll", "remat")
    hidden: ClassVar[str] = r"^(\w+_)?layers?\..+\.kernel$"

    width: int = 1536
    depth: int = 24
    heads: int = 24
    patch: tuple[int, ...] = (2,)
    dual_depth: int = 0
    qk_norm: bool = False
    mlp_ratio: float = 4.0
    embedding: TimeEmbedding = Sinusoidal(cos_first=True, endpoint=False)
    embedding_features: int = 256
    positions: Positions | None = SinCosPositions(base=(64,), table=(192,))
    norm_eps: float = 1e-6
    out_channels: int | None = None
    attention: Implementation = "xla"
    unroll: bool = False
    remat: Remat = "dots"
    dtype: str | None = None

    def __post_init__(self) -> None:
        check_settings(self.dtype)
        integer("depth", self.depth, most=1000)
        integer("dual_depth", self.dual_depth, least=0, most=self.depth - 1)
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
        """Evaluates the network. The arguments, the result and the errors are those of `DiT`; `key` is not used.

        Raises:
          ValueError: the network is told no tokens.
        """
        x = jnp.asarray(x)
        inside = enter(self, x, time, cond, key)
        dtype, c = inside.dtype, inside.c
        context = JoinedTokens(self.specs, dtype, self.width, name="context")(inside.given)
        if context is None:
            told = sorted({spec.channel for _, spec in self.specs})
            raise ValueError(message("channels of the conditions", told, "those with 'tokens', which MMDiT needs"))
        h = PatchEmbedding(self.width, inside.patch, dtype, name="patch_in")(inside.x)
        if self.positions is not None:
            h = h + self.positions(self, inside.grid, self.width).astype(dtype)
        h = h.reshape(h.shape[0], -1, self.width)

        def block(name: str, loop: bool, dual: bool = False, last: bool = False) -> Any:
            return rematerialised(JointBlock, self.remat, loop and not self.unroll)(
                heads=self.heads,
                hidden=int(self.width * self.mlp_ratio),
                qk_norm=self.qk_norm,
                norm_eps=self.norm_eps,
                dual=dual,
                last=last,
                attention=self.attention,
                dtype=dtype,
                name=name,
            )

        def body(layer: Any, streams: tuple[Array, Context], i: Array, _: None) -> tuple[tuple[Array, Context], None]:
            return layer(*streams, c), None

        streams: Any = (h, context)
        dual = self.dual_depth
        streams, _ = stack(block("dual_layers", True, dual=True), dual, body, streams, unroll=self.unroll)
        streams, _ = stack(block("layers", True), self.depth - 1 - dual, body, streams, unroll=self.unroll)
        h, _ = block("last_layer", False, last=True)(*streams, c)
        channels = x.shape[-1] if self.out_channels is None else self.out_channels
        h = OutputLayer(inside.patch_size * channels, "layer", self.norm_eps, inside.wide, name="out")(h, c)
        return unpatchify(h.reshape(h.shape[0], *inside.grid, -1), inside.patch)
