"""A U-Net with a side network that is told a picture: ControlNet."""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from jaxdiff.checks import integer, require
from jaxdiff.networks.inputs import Cond
from jaxdiff.networks.layers.blocks import conv
from jaxdiff.networks.layers.dense import Dense
from jaxdiff.networks.module import Network, Spec, check_specs
from jaxdiff.networks.unets.halves import Bottom, way_down
from jaxdiff.networks.unets.levels import Levels
from jaxdiff.networks.unets.unet import UNet


class ControlNet(Network):
    """A U-Net and a copy of its way down that is told a picture, the hint (Zhang et al. 2023, arXiv 2302.05543).

        hint features = zero(conv(... silu(conv(hint))))           added to the first hidden state of the copy
        h_i = h_i + zero(h_i of the copy)                          for all hidden states that the way up needs

    "zero" is a convolution or a dense layer that starts at zero. A fresh side network therefore changes nothing. The
    copy is told time and all other conditions too. The parameters are `{"network": those of the U-Net, "side": ...}`,
    and `start` fills in those of a trained U-Net. The U-Net is frozen, and the side network alone is trained.

    Attributes:
      network: the U-Net.
      hint: the name of the condition of planes that only the side network is told.
      hint_channels: channels of the convolutions of the hint. Every further entry halves the resolution: with n entries
        the sides of the hint are `2^(n - 1)` times those of the input. The hint of a model in pixels has one entry;
        Stable Diffusion's, a picture beside latents, has `(16, 32, 96, 256)`.
    """

    takes: ClassVar[tuple[str, ...]] = UNet.takes
    hidden: ClassVar[str] = (
        r"^(network|side)\.(?!(conv_in|conditioning|context|conv_out(_\d+)?|hint_(in|out))\.).+\.kernel$"
    )

    trained: ClassVar[str] = r"^side\."

    network: UNet = UNet()
    hint: str = "hint"
    hint_channels: tuple[int, ...] = (16,)

    def __post_init__(self) -> None:
        require(self.hint_channels, "hint_channels", self.hint_channels, "tuples of at least one integer")
        for number in self.hint_channels:
            integer("hint_channels", number)
        super().__post_init__()

    def given(self, specs: Mapping[str, Spec]) -> Self:
        """As `Network.given`. The U-Net is told all conditions except the hint.

        Raises:
          ValueError: see `Network.given`; or the hint is not among the conditions, or no planes.
        """
        checked = dict(check_specs(specs, self.takes, type(self).__name__))
        planes = [name for name, spec in checked.items() if spec.channel == "planes"]
        require(self.hint in planes, "hint", self.hint, f"conditions of planes: {', '.join(planes) or 'none'}")
        others = {name: spec for name, spec in checked.items() if name != self.hint}
        return self.clone(specs=tuple(checked.items()), network=self.network.given(others))

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch *space channels"],
        time: Float[Array, " batch"] | Float[Array, "batch 2"],
        cond: Cond = None,
        key: Any = None,
    ) -> Float[Array, "batch *space out"]:
        """Evaluates the network. The arguments, the result and the errors are those of `UNet`.

        Raises:
          ValueError: see `UNet`; or the hint is missing, or its shape does not fit x.
        """
        told = dict(cond) if isinstance(cond, Mapping) else {} if cond is None else {self.hint: cond}
        require(self.hint in told, "entries of cond", sorted(told), f"mappings with the hint {self.hint!r}")
        hint, x = jnp.asarray(told.pop(self.hint)), jnp.asarray(x)
        factor = 2 ** (len(self.hint_channels) - 1)
        first = 2 if self.network.temporal and x.ndim == 5 else 1  # the axes of examples and of frames
        shape = (*x.shape[:first], *(factor * length for length in x.shape[first:-1]))
        require(hint.shape[:-1] == shape, f"cond[{self.hint!r}].shape", hint.shape, f"{(*shape, 'c')}")
        settings = self.network.clone(parent=None, name=None)
        side = _Side(settings, self.hint_channels, name="side")(x, time, told or None, key, hint)
        return self.network(x, time, told or None, key, side)

    def start(self, variables: PyTree, trained: PyTree) -> PyTree:
        """The variables with a trained U-Net's, in the U-Net and in the copy.

        Args:
          variables: fresh variables of this network.
          trained: variables of the U-Net.
        """
        params, known = variables["params"], trained["params"]
        side = {name: known.get(name, value) for name, value in params["side"].items()}
        return {**variables, "params": {**params, "network": known, "side": side}}

    def plain(self) -> Self:
        return self.clone(network=self.network.plain())

    def quiet(self) -> Self:
        return self.clone(network=self.network.quiet())


class _Side(nn.Module):
    """The side network.

    Attributes:
      settings: the U-Net whose way down is copied.
      hint_channels: see `ControlNet`.
    """

    settings: UNet
    hint_channels: tuple[int, ...]

    @nn.compact
    def __call__(self, x: Array, time: Any, cond: Cond, key: Any, hint: Array) -> Bottom:
        """What is added to the hidden states of the U-Net."""
        layers = Levels(self.settings, x, time, cond, key)
        dtype = layers.dtype
        h = hint.astype(dtype)
        h = h if layers.inputs.frames is None else h.reshape(-1, *h.shape[-3:])
        h = nn.silu(conv(h, self.hint_channels[0], dtype, "hint_in"))
        for i, (channels, wider) in enumerate(zip(self.hint_channels[:-1], self.hint_channels[1:], strict=True)):
            h = nn.silu(conv(h, channels, dtype, f"hint_{i}"))
            h = nn.silu(conv(h, wider, dtype, f"hint_{i}_resample", strides=2, padding=1))
        h = conv(h, self.settings.channels, dtype, "hint_out", zero=True)
        bottom = way_down(self.settings, layers, layers.inputs.x, h)

        def zero(h: Array, name: str) -> Array:
            return Dense(h.shape[-1], dtype=dtype, kernel_init=nn.initializers.zeros, name=name)(h)

        skips = [zero(skip, f"zero_{i}") for i, skip in enumerate(bottom.skips)]
        return bottom._replace(h=zero(bottom.h, "zero_mid"), skips=skips)
