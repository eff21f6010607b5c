"""Pictures and their labels together: a codec and a network for a mapping of two fields."""

import dataclasses
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from additions import blobs, small
from jaxdiff.codecs import Codec
from jaxdiff.models import Diffusion
from jaxdiff.networks import Sinusoidal
from jaxdiff.networks.module import Network
from jaxdiff.runs.config import Config


@dataclasses.dataclass(frozen=True)
class WithOneHot(Codec):
    """Labels as one-hot vectors in [-1, 1], beside pictures.

    Attributes:
      classes: the number of classes.
    """

    classes: int = 2

    def encode(self, frozen: Any, x: Any, keys: Any = None) -> Any:
        return {**x, "label": 2 * jax.nn.one_hot(x["label"], self.classes) - 1}

    def decode(self, frozen: Any, z: Any) -> Any:
        return {**z, "label": jnp.argmax(z["label"], axis=-1)}


class Both(Network):
    """A dense network of pictures and vectors.

    Attributes:
      width: the number of units.
    """

    takes: ClassVar[tuple[str, ...]] = ()
    width: int = 64

    @nn.compact
    def __call__(self, x: Any, time: Any, cond: Any = None, key: Any = None) -> Any:
        flat = jnp.concatenate([x["image"].reshape(len(time), -1), x["label"]], -1)
        h = nn.Dense(self.width)(flat) + nn.Dense(self.width)(Sinusoidal()(time, 32))
        h = nn.silu(nn.Dense(self.width)(nn.silu(h)))
        out = nn.Dense(flat.shape[-1], kernel_init=nn.initializers.zeros)(h)
        pixels = x["image"][0].size
        return {"image": out[:, :pixels].reshape(x["image"].shape), "label": out[:, pixels:]}


CONFIG = Config(
    data=blobs.Blobs(),
    model=Diffusion(network=Both(), field=("image", "label"), codec=WithOneHot()),
    optimizer=small.OPTIMIZER,
    train=small.TRAIN,
    sample=small.SAMPLE,
)
