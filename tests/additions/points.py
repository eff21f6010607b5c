"""Sets of points on a sphere: a data set, with a network for it."""

import dataclasses
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from additions import small
from jaxdiff.data import Dataset, Examples, from_arrays
from jaxdiff.data.fields import Field
from jaxdiff.models import Diffusion
from jaxdiff.networks import Sinusoidal
from jaxdiff.networks.module import Network
from jaxdiff.runs.config import Config


@dataclasses.dataclass(frozen=True)
class Spheres(Dataset):
    """Points that are uniform on a sphere.

    Attributes:
      points: the number of points of a set.
      n: the number of sets.
    """

    points: int = 8
    n: int = 128

    def open(self) -> Examples:
        x = np.random.default_rng(0).normal(size=(self.n, self.points, 3))
        x = (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)
        return from_arrays({"points": x}, fields={"points": Field("points", (self.points, 3))})


class PointNetwork(Network):
    """Every point is told the mean of all points.

    Attributes:
      width: the number of units.
    """

    takes: ClassVar[tuple[str, ...]] = ()
    width: int = 32

    @nn.compact
    def __call__(self, x: Any, time: Any, cond: Any = None, key: Any = None) -> Any:
        h = nn.Dense(self.width)(x) + nn.Dense(self.width)(Sinusoidal()(time, self.width))[:, None]
        for _ in range(2):
            mean = jnp.mean(h, axis=1, keepdims=True)
            h = h + nn.Dense(self.width)(nn.silu(nn.Dense(self.width)(h) + nn.Dense(self.width)(mean)))
        return nn.Dense(3, kernel_init=nn.initializers.zeros)(nn.silu(h))


CONFIG = Config(
    data=Spheres(),
    model=Diffusion(network=PointNetwork(), field="points"),
    optimizer=small.OPTIMIZER,
    train=small.TRAIN,
    sample=small.SAMPLE,
)
