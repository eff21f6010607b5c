"""The layers of the levels of a U-Net, which are told time, conditions and tokens."""

from functools import partial
from typing import Any

import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array

from jaxdiff.checks import require
from jaxdiff.networks.inputs import Cond
from jaxdiff.networks.layers.attention import SelfAttention
from jaxdiff.networks.layers.blocks import conv
from jaxdiff.networks.layers.context import Context, JoinedTokens
from jaxdiff.networks.layers.resampling import downsample, upsample
from jaxdiff.networks.layers.temporal import TemporalAttention
from jaxdiff.networks.layers.transformer import SpatialTransformer
from jaxdiff.networks.remat import rematerialised
from jaxdiff.networks.unets.entrance import Entrance, enter, residual_blocks


class Levels:
    """The layers of all levels of a U-Net. It must be made, and called, inside one compact method.

    Layers whose names are in the settings `perturbed` and `skipped` of the network are weakened.

    Attributes:
      inputs: the arguments of the network, checked and embedded.
      dtype: the compute type.
      num_blocks: the number of residual blocks of each level on the way down.
    """

    def __init__(self, network: Any, x: Array, time: Any, cond: Cond, key: Any) -> None:
        """The layers.

        Args:
          network: the settings, those of `UNet`.
          x, time, cond, key: the arguments of `UNet`.

        Raises:
          ValueError, TypeError: see `UNet`.
        """
        self._network = network
        self.inputs: Entrance = enter(
            network, x, time, cond, key,
            embedding_features=network.embedding_features, vectors=network.vectors, temporal=network.temporal,
        )  # fmt: skip
        self.dtype: DTypeLike = self.inputs.dtype
        levels = len(network.multipliers)
        for name in ("num_blocks", "heads", "transformer_depths"):
            values = getattr(network, name)
            if isinstance(values, tuple) and (values or name == "num_blocks"):
                require(len(values) == levels, name, values, f"tuples of {levels} integers, one per level")
        blocks = network.num_blocks
        self.num_blocks: tuple[int, ...] = blocks if isinstance(blocks, tuple) else (blocks,) * levels
        self._heads, self._depths = network.heads, network.transformer_depths or (1,) * levels
        self._residual = residual_blocks(network, self.inputs, skip_scale=network.skip_scale, remat=network.remat)
        self._context = self._read_tokens()
        self._loose = self._read_loose()
        self._attentions: list[str] = []
        self._others: list[str] = []

    def block(self, h: Array, features: int, name: str, **options: Any) -> Array:
        """A residual block. A block that changes the shape cannot be skipped."""
        if not options and h.shape[-1] == features:
            self._others.append(name)
            if name in self._network.skipped:
                return h
        return self._residual(h, features, name, **options)

    def attention(self, h: Array, level: int, name: str) -> Array:
        """The attention of a level: over positions, to tokens if there are any, and over frames if there are any."""
        self._attentions.append(name)
        if name in self._network.skipped:
            return h
        network, dtype = self._network, self.dtype
        size = network.head_channels
        if self._heads:
            count, width = self._heads[level], h.shape[-1]
            require(count >= 1 and width % count == 0, f"heads[{level}]", count, f"divisors of {width} channels")
            size = width // count
        options: dict[str, Any] = {"skip_scale": network.skip_scale, "identity": name in network.perturbed}
        groups, eps = network.norm_groups, network.norm_eps
        if self._context is not None and network.tokens == "cross":
            make = rematerialised(SpatialTransformer, network.remat)
            h = make(size, groups, depth=self._depths[level], dtype=dtype, name=name, **options)(h, self._context)
        else:
            make = rematerialised(SelfAttention, network.remat)
            told = () if self._context is None else (self._context,)
            h = make(size, groups, eps, dtype=dtype, name=name, **options)(h, *told)
        if self.inputs.frames is not None:
            over_frames = rematerialised(TemporalAttention, network.remat)
            h = over_frames(self.inputs.frames, size, groups, eps, dtype, name=f"{name}_temporal")(h, self._loose)
        return h

    def halve(self, h: Array, features: int, name: str) -> Array:
        """Halves the resolution."""
        network = self._network
        if network.resampling == "residual":
            half = partial(downsample, taps=network.resample_filter)
            return self.block(h, features, name, resample=half, project=network.resample_projection)
        padding = "SAME" if network.downsample_padding == "same" else 1
        return conv(h, features, self.dtype, name, strides=2, padding=padding)

    def double(self, h: Array, features: int, name: str, size: tuple[int, ...]) -> Array:
        """Doubles the resolution, to the spatial shape `size`."""
        network = self._network
        if network.resampling == "residual":
            double = partial(upsample, size=size, taps=network.resample_filter)
            return self.block(h, features, name, resample=double, project=network.resample_projection)
        return conv(upsample(h, size), features, self.dtype, name)

    def check_weakened(self) -> None:
        """Checks the names in `perturbed` and `skipped`, after all layers were called.

        Raises:
          ValueError: there is no such layer, or it changes the shape.
        """
        attentions = ", ".join(self._attentions) or "none"
        for name in self._network.perturbed:
            require(name in self._attentions, "perturbed", name, f"layers of attention: {attentions}")
        for name in self._network.skipped:
            layers = self._attentions + self._others
            allowed = f"layers that keep the shape: {', '.join(layers) or 'none'}"
            require(name in layers, "skipped", name, allowed)

    def _read_tokens(self) -> Context | None:
        """The tokens of all conditions, for every frame; None if there are none."""
        network, frames = self._network, self.inputs.frames
        if all(spec.channel != "tokens" for _, spec in network.specs):
            return None
        attends = network.mid_attention or bool(network.attention_levels)
        require(attends, "attention_levels", network.attention_levels, "tuples of a level, to attend to tokens")
        join = JoinedTokens(network.specs, self.dtype, network.context_width, network.context_norm, name="context")
        context: Context | None = join(self.inputs.given)
        if context is None or frames is None:
            return context
        return Context(*(jnp.repeat(part, frames, axis=0) for part in context))

    def _read_loose(self) -> Array | None:
        """The examples whose frames are loose images; None for none."""
        name, specs = self._network.loose_images, dict(self._network.specs)
        if not name:
            return None
        classes = [known for known, spec in specs.items() if spec.channel == "class"]
        require(name in classes, "loose_images", name, f"conditions of classes: {', '.join(classes) or 'none'}")
        return jnp.asarray(self.inputs.given[name]) == 1
