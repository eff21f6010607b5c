"""Guidance in an interval of noise levels: a guidance rule. Kynkaanniemi et al. 2024 (arXiv 2404.07724)."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from additions import blobs, small
from jaxdiff import trees
from jaxdiff.conditions import Label
from jaxdiff.guidance import Asked, Guidance
from jaxdiff.models import Diffusion
from jaxdiff.parametrizations import Estimate
from jaxdiff.runs.config import Config


@dataclasses.dataclass(frozen=True)
class Interval(Guidance):
    """Classifier-free guidance where sigma/alpha lies in an interval, and none elsewhere.

    Attributes:
      scale: the scale of guidance.
      low: the least noise with guidance.
      high: the most noise with guidance.
    """

    scale: float = 2.0
    low: float = 0.2
    high: float = 5.0

    def __call__(self, denoiser_of: Callable[[Any], Any], asked: Asked, frozen: Any = None) -> Any:
        numbers = jnp.asarray([self.scale, self.low, self.high])
        return InInterval(denoiser_of(asked.cond), denoiser_of(asked.null), numbers)


@trees.register
@dataclasses.dataclass(frozen=True)
class InInterval:
    """The denoiser of `Interval`."""

    cond: Any
    uncond: Any
    numbers: Any

    @property
    def process(self) -> Any:
        """The process of both denoisers."""
        return self.cond.process

    def __call__(self, x: Any, t: Any, s: Any = None) -> Estimate:
        scale, low, high = self.numbers
        level = self.process.sigma(t) / self.process.alpha(t)
        scale = trees.per_example(jnp.where((level >= low) & (level <= high), scale, 1.0), x)
        pairs = zip(self.uncond(x, t, s), self.cond(x, t, s), strict=True)
        return Estimate(*(trees.lincomb((1 - scale, scale), pair) for pair in pairs))


CONFIG = Config(
    data=blobs.Blobs(),
    model=Diffusion(network=small.NETWORK, conditions={"label": Label()}),
    optimizer=small.OPTIMIZER,
    train=small.TRAIN,
    sample=dataclasses.replace(small.SAMPLE, guidance=Interval(3.0)),
)
