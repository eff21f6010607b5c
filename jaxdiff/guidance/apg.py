"""Adaptive projected guidance: less of the guidance that only saturates."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from jaxdiff import trees
from jaxdiff.arithmetic import root
from jaxdiff.checks import require
from jaxdiff.components import Table
from jaxdiff.denoisers import Denoiser
from jaxdiff.guidance.both import of_conditions
from jaxdiff.guidance.estimates import with_x0
from jaxdiff.guidance.guidance import Asked, Guidance, Wish
from jaxdiff.guidance.guided import GuidedDenoiser, guided
from jaxdiff.guidance.schedules import Schedule, as_scale, finite, scale_at
from jaxdiff.parametrizations import Estimate
from jaxdiff.processes import Process


@trees.register
@dataclasses.dataclass(frozen=True)
class Projection:
    """The rule of adaptive projected guidance, without momentum."""

    scale: Any
    eta: Any
    norm: Any

    def __call__(self, process: Process, x: PyTree, t: Any, c: Estimate, u: Estimate) -> Estimate:
        """The guided estimate, of the conditional one and the unconditional one."""
        return self.moved(process, x, t, c, trees.lincomb((1.0, -1.0), (c.x0, u.x0)))

    def moved(self, process: Process, x: PyTree, t: Any, c: Estimate, difference: PyTree) -> Estimate:
        """The conditional estimate, moved along a difference of data that is shortened and split first."""
        length, size = root(trees.inner(difference, difference)), trees.inner(c.x0, c.x0)
        # An infinite norm leaves the difference as it is, with a finite derivative.
        shortened = trees.lincomb((1 / jnp.maximum(1.0, length * (1 / self.norm)),), (difference,))
        parallel = trees.inner(shortened, c.x0) / jnp.where(size > 0, size, 1)
        scale = scale_at(self.scale, process, x, t) - 1
        # The update is the orthogonal part and eta times the parallel part.
        x0 = trees.lincomb((1.0, scale, scale * (self.eta - 1) * parallel), (c.x0, shortened, c.x0))
        return with_x0(process, c, x0, t)


@trees.register
@dataclasses.dataclass(frozen=True)
class ProjectionWithMomentum(Projection):
    """The rule of adaptive projected guidance, with a running sum of the differences as its memory."""

    momentum: Any

    def start(self, x: PyTree) -> PyTree:
        """No differences yet."""
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, trees.wide(leaf)), x)

    def with_memory(
        self, memory: PyTree, process: Process, x: PyTree, t: Any, c: Estimate, u: Estimate
    ) -> tuple[Estimate, PyTree]:
        """The guided estimate and the next sum."""
        total = trees.lincomb((1.0, -1.0, self.momentum), (c.x0, u.x0, memory))
        total = trees.cast_like(total, memory)
        return self.moved(process, x, t, c, total), total


def apg(
    conditional: Denoiser,
    unconditional: Denoiser,
    scale: Any,
    *,
    eta: Any = 0.0,
    norm: Any = math.inf,
    momentum: Any = 0.0,
) -> GuidedDenoiser:
    """Adaptive projected guidance: large scales without saturated colours.

    The difference of both estimates of the data is changed in this order:

        d = c_x0 - u_x0 + momentum d_before        momentum, from d = 0 on
        d = min(1, norm/|d|) d                     the length of an example, over all its numbers
        d = d_orthogonal + eta d_parallel          with respect to c_x0
        x0 = c_x0 + (scale - 1) d

    Sadat et al. 2024 (arXiv 2410.02416), algorithm 1. eps follows from x0. With `eta=1`, without `norm` and without
    momentum this is `classifier_free`. With momentum the denoiser remembers d before it is shortened. `sample` carries
    this memory, and nothing else can call the denoiser.

    Args:
      conditional, unconditional, scale: as for `classifier_free`.
      eta: the factor of the part that is parallel to c_x0, a leaf.
      norm: the largest length of the difference, in the units of the data, a leaf; infinity for any length.
      momentum: the factor of the difference before, a leaf; negative in the paper. The number 0 needs no memory.

    Raises:
      ValueError: as for `classifier_free`.
    """
    numbers = (as_scale(scale), jnp.asarray(eta, float), jnp.asarray(norm, float))
    none = isinstance(momentum, int | float) and momentum == 0
    rule = Projection(*numbers) if none else ProjectionWithMomentum(*numbers, jnp.asarray(momentum, float))
    return guided(rule, conditional=conditional, unconditional=unconditional)


@dataclasses.dataclass(frozen=True)
class APG(Guidance):
    """Adaptive projected guidance, without saturated colours: `apg` towards everything that is asked for.

    Attributes:
      scale: 1 for no guidance.
      eta: the factor of the part of the guidance that is parallel to the estimate.
      norm: the largest length of the guidance, in the units of the data.
      momentum: the factor of the guidance of the step before, above -1 and below 1; negative in the paper.
      negative: what samples are led away from, NAME=VALUE by the name of a condition; empty for the null conditions.
    """

    scale: float | Schedule = 1.0
    eta: float = 0.0
    norm: float = math.inf
    momentum: float = 0.0
    negative: dict[str, Wish] = dataclasses.field(default_factory=Table)

    def __post_init__(self) -> None:
        object.__setattr__(self, "negative", Table(self.negative))
        finite("scale", self.scale)
        finite("eta", self.eta)
        require(self.norm > 0, "norm", self.norm, "numbers above 0")
        require(-1 < self.momentum < 1, "momentum", self.momentum, "numbers above -1 and below 1")

    def __call__(self, denoiser_of: Callable[[PyTree], Denoiser], asked: Asked, frozen: Any = None) -> Denoiser:
        if self.scale == 1:
            return denoiser_of(asked.cond)
        asked.require_conditions("scale", self.scale)
        conditional, unconditional = of_conditions(denoiser_of, asked.cond, asked.without(self.negative))
        options = {"eta": self.eta, "norm": self.norm, "momentum": self.momentum}
        return apg(conditional, unconditional, self.scale, **options)
