"""Molecules: positions, elements and the mask of their atoms, together. `--data.data_dir` names the TFDS directory."""

import dataclasses
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp

from jaxdiff import parametrizations, processes
from jaxdiff.codecs import Codec
from jaxdiff.components import choose
from jaxdiff.data import Tfds
from jaxdiff.data.features import Padded, Points
from jaxdiff.models import Diffusion, Sampling
from jaxdiff.networks import Sinusoidal
from jaxdiff.networks.module import Network
from jaxdiff.runs.config import Config, OptimizerConfig, TrainConfig


@dataclasses.dataclass(frozen=True)
class Atoms(Codec):
    """Positions in units of their spread, elements and the mask in [-1, 1].

    Attributes:
      spread: the standard deviation of a coordinate, in angstrom.
    """

    spread: float = 1.5

    def encode(self, frozen: Any, x: Any, keys: Any = None) -> Any:
        return {
            "positions": x["positions"] / self.spread,
            "atomic_numbers": 2 * x["atomic_numbers"] - 1,
            "positions_mask": 2 * x["positions_mask"].astype(jnp.float32) - 1,
        }

    def decode(self, frozen: Any, z: Any) -> Any:
        return {
            "positions": z["positions"] * self.spread,
            "atomic_numbers": (z["atomic_numbers"] + 1) / 2,
            "positions_mask": z["positions_mask"] > 0,
        }


class Atomwise(Network):
    """Every atom attends to all atoms.

    Attributes:
      width: the number of units.
      depth: the number of layers of attention.
    """

    takes: ClassVar[tuple[str, ...]] = ()
    width: int = 64
    depth: int = 3

    @nn.compact
    def __call__(self, x: Any, time: Any, cond: Any = None, key: Any = None) -> Any:
        atoms = jnp.concatenate([x["positions"], x["atomic_numbers"], x["positions_mask"][..., None]], -1)
        h = nn.Dense(self.width)(atoms) + nn.Dense(self.width)(Sinusoidal()(time, self.width))[:, None]
        h = h + self.param("places", nn.initializers.normal(0.02), h.shape[1:])
        for _ in range(self.depth):
            a = nn.LayerNorm()(h)
            h = h + nn.MultiHeadDotProductAttention(4)(a, a)
            h = h + nn.Dense(self.width)(nn.gelu(nn.Dense(2 * self.width)(nn.LayerNorm()(h))))
        out = nn.Dense(atoms.shape[-1], kernel_init=nn.initializers.zeros)(nn.LayerNorm()(h))
        return {"positions": out[..., :3], "atomic_numbers": out[..., 3:-1], "positions_mask": out[..., -1]}


ELEMENTS = {"H": 1, "C": 6, "N": 7, "O": 8, "S": 16}
CONFIG = Config(
    data=Tfds(
        "qm7_molecules",
        fields={
            "positions": Points(23),
            "atomic_numbers": Padded(23, values=tuple(ELEMENTS.values()), names=tuple(ELEMENTS)),
        },
    ),
    model=Diffusion(
        network=Atomwise(),
        process=choose(processes.vp_cosine),
        parametrization=choose(parametrizations.v),
        field=("positions", "atomic_numbers", "positions_mask"),
        codec=Atoms(),
    ),
    optimizer=OptimizerConfig(learning_rate=1e-3, warmup=50),
    train=TrainConfig(steps=1200, batch_size=64, ema_half_life=10_000, log_every=100, sample_every=0),
    sample=Sampling(steps=50),
)
