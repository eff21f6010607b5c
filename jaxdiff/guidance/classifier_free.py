"""Classifier-free guidance."""

import dataclasses
from collections.abc import Callable
from typing import Any

from jaxtyping import PyTree

from jaxdiff import trees
from jaxdiff.components import Table
from jaxdiff.denoisers import Denoiser
from jaxdiff.guidance.both import of_conditions
from jaxdiff.guidance.guidance import Asked, Guidance, Wish
from jaxdiff.guidance.guided import GuidedDenoiser, guided
from jaxdiff.guidance.schedules import Schedule, as_scale, finite, scale_at
from jaxdiff.parametrizations import Estimate
from jaxdiff.processes import Process


@trees.register
@dataclasses.dataclass(frozen=True)
class Extrapolation:
    """The rule `u + scale (c - u)`."""

    scale: Any

    def __call__(self, process: Process, x: PyTree, t: Any, c: Estimate, u: Estimate) -> Estimate:
        """The guided estimate, of the conditional one and the unconditional one."""
        scale = scale_at(self.scale, process, x, t)
        return Estimate(*(trees.lincomb((1 - scale, scale), pair) for pair in zip(u, c, strict=True)))


def classifier_free(conditional: Denoiser, unconditional: Denoiser, scale: Any) -> GuidedDenoiser:
    """Classifier-free guidance: the estimate `u + scale (c - u)` of an unconditional u and a conditional estimate c.

    A scale of 1 is no guidance; a scale of 0 is unconditional. x0 and eps are extrapolated alike. Ho & Salimans 2022
    (arXiv 2207.12598), equation 6, with `w = scale - 1`. Each call evaluates both denoisers; with those of `both` it
    calls the network once. With an estimate of another condition in the place of u, this condition is negative: samples
    are led away from it.

    At each time the score is that of `p_u(x_t)^(1 - scale) p_c(x_t)^scale`. These tilted densities are those of the
    noisy data of one distribution only in special cases, such as Gaussians of one variance.

    Args:
      conditional, unconditional: denoisers of the same process, with and without the condition.
      scale: a number; `[batch]`, one number per example; or a function `(process, t) -> scale`, such as those of
        `guidance.schedules`. Its numbers are leaves, so another scale needs no new compilation.

    Raises:
      ValueError: the denoisers have different processes (numbers that JAX is tracing are not compared), or `scale` has
        more than one axis. When the result is called: the length of `scale` is not that of the batch.
    """
    return guided(Extrapolation(as_scale(scale)), conditional=conditional, unconditional=unconditional)


@dataclasses.dataclass(frozen=True)
class ClassifierFree(Guidance):
    """Classifier-free guidance: `classifier_free` towards everything that is asked for.

    Attributes:
      scale: 1 for no guidance, 0 for unconditional samples.
      negative: what samples are led away from, NAME=VALUE by the name of a condition; empty for the null conditions.
    """

    scale: float | Schedule = 1.0
    negative: dict[str, Wish] = dataclasses.field(default_factory=Table)

    def __post_init__(self) -> None:
        object.__setattr__(self, "negative", Table(self.negative))
        finite("scale", self.scale)

    def __call__(self, denoiser_of: Callable[[PyTree], Denoiser], asked: Asked, frozen: Any = None) -> Denoiser:
        if self.scale == 1:
            return denoiser_of(asked.cond)
        asked.require_conditions("scale", self.scale)
        conditional, unconditional = of_conditions(denoiser_of, asked.cond, asked.without(self.negative))
        return classifier_free(conditional, unconditional, self.scale)
