"""The settings that the presets of the additions share: a tiny network and few steps."""

from typing import Any, ClassVar

import flax.linen as nn

from jaxdiff.models import Sampling
from jaxdiff.networks import Sinusoidal
from jaxdiff.networks.module import Network
from jaxdiff.runs.config import OptimizerConfig, TrainConfig


class Small(Network):
    """A dense network, which compiles in a second.

    Attributes:
      width: the number of units.
    """

    takes: ClassVar[tuple[str, ...]] = ("class", "planes")
    width: int = 64

    @nn.compact
    def __call__(self, x: Any, time: Any, cond: Any = None, key: Any = None) -> Any:
        h = nn.Dense(self.width)(x.reshape(len(x), -1)) + nn.Dense(self.width)(Sinusoidal()(time, 32))
        for name, spec in self.specs:
            if spec.channel == "class":
                h = h + nn.Embed(spec.classes + 1, self.width, name=name)(cond[name])
            else:
                h = h + nn.Dense(self.width, name=name)(cond[name].reshape(len(x), -1))
        h = nn.silu(nn.Dense(self.width)(nn.silu(h)))
        return nn.Dense(x[0].size, kernel_init=nn.initializers.zeros)(h).reshape(x.shape)


NETWORK = Small()
OPTIMIZER = OptimizerConfig(learning_rate=1e-2, warmup=5)
TRAIN = TrainConfig(steps=200, batch_size=32, ema_half_life=1000, log_every=1, sample_every=0, checkpoint_every=100)
SAMPLE = Sampling(steps=4)
