"""Runs whose networks are closed forms: a mixture of Gaussians, and the classifier of its noisy data."""

from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from models.exact import RAW_V

from jaxdiff import denoisers, parametrizations, processes
from jaxdiff.components import choose
from jaxdiff.conditions import Label
from jaxdiff.data import Toy
from jaxdiff.models import Classifier, Diffusion, Sampling
from jaxdiff.networks.module import Network
from jaxdiff.runs.config import Config, OptimizerConfig, TrainConfig

ANGLES = 2 * np.pi * np.arange(8) / 8
MEANS = 0.8 * np.stack([np.cos(ANGLES), np.sin(ANGLES)], -1)
PROCESS = processes.vp_cosine()


class Mixture(Network):
    """The exact network of eight Gaussians on a circle, whatever class is asked for.

    Attributes:
      std: the standard deviation of each Gaussian.
    """

    takes: ClassVar[tuple[str, ...]] = ("class",)
    std: float = 0.05

    @nn.compact
    def __call__(self, x: Any, time: Any, cond: Any = None, key: Any = None) -> Any:
        shift = self.param("shift", nn.initializers.zeros, ())
        exact = denoisers.gaussian_mixture(PROCESS, np.ones(8), MEANS, np.full(8, self.std))
        return parametrizations.output_of(PROCESS, parametrizations.v(), exact(x + shift, time), time)


class Judge(Network):
    """The exact classifier of noisy points of `Mixture`.

    Attributes:
      features: the number of classes.
    """

    gives: ClassVar[str] = "vector"
    output_length: ClassVar[str] = "features"
    features: int | None = None

    @nn.compact
    def __call__(self, x: Any, time: Any, cond: Any = None, key: Any = None) -> Any:
        offset = self.param("offset", nn.initializers.zeros, ())
        alpha, sigma = (f(time / 1000)[:, None] for f in (PROCESS.alpha, PROCESS.sigma))
        squares = jnp.sum((x[:, None] + offset - alpha[..., None] * MEANS) ** 2, axis=-1)
        return -squares / (2 * (alpha**2 * 0.05**2 + sigma**2))


def _config(model):
    return Config(
        data=Toy("gaussians", n=32),
        model=model,
        objective=model.objective(),
        optimizer=OptimizerConfig(learning_rate=1e-12),
        train=TrainConfig(steps=1, batch_size=8, sample_every=0),
        sample=Sampling(steps=20),
    )


def _diffusion(std):
    process = choose(processes.vp_cosine)
    conditions = {"label": Label()}
    return Diffusion(Mixture(std), process, RAW_V, field="x", conditions=conditions)


STRONG, WEAK = _config(_diffusion(0.05)), _config(_diffusion(0.3))
JUDGE = _config(Classifier(Judge(), field="x", process=choose(processes.vp_cosine)))
