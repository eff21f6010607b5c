"""CFG-Zero*: an unconditional velocity of the best length, and no motion at first."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import PyTree

from jaxdiff import trees
from jaxdiff.checks import fraction
from jaxdiff.components import Table
from jaxdiff.denoisers import Denoiser
from jaxdiff.guidance.both import of_conditions
from jaxdiff.guidance.estimates import predicted, with_prediction
from jaxdiff.guidance.guidance import Asked, Guidance, Wish
from jaxdiff.guidance.guided import GuidedDenoiser, guided
from jaxdiff.guidance.schedules import Schedule, as_scale, finite, fraction_of_time, scale_at
from jaxdiff.parametrizations import Estimate
from jaxdiff.processes import Process


@trees.register
@dataclasses.dataclass(frozen=True)
class ScaledVelocity:
    """The rule of CFG-Zero*."""

    scale: Any
    zero_init: Any

    def __call__(self, process: Process, x: PyTree, t: Any, c: Estimate, u: Estimate) -> Estimate:
        """The guided estimate, of the conditional one and the unconditional one."""
        v_c, v_u = (predicted(process, "velocity", estimate, t) for estimate in (c, u))
        best = trees.inner(v_c, v_u) / (trees.inner(v_u, v_u) + 1e-8)
        scale = scale_at(self.scale, process, x, t)
        moves = fraction_of_time(process, t) <= 1 - self.zero_init
        v = trees.lincomb((moves * (1 - scale) * best, moves * scale), (v_u, v_c))
        return with_prediction(process, "velocity", x, c, v, t)


def cfg_zero_star(
    conditional: Denoiser, unconditional: Denoiser, scale: Any, *, zero_init: Any = 0.0
) -> GuidedDenoiser:
    """CFG-Zero*: guidance of velocities, in which the unconditional one has the best length for each example.

        s = <v_c, v_u> / (|v_u|^2 + 1e-8)        v = s v_u + scale (v_c - s v_u)

    Fan et al. 2025 (arXiv 2503.18886), algorithm 1. The velocity is that of the process,
    `v = alpha' x0 + sigma' eps`, which is `eps - x0` for `processes.flow()`, the process of the paper. On another
    process it is what `parametrizations.velocity` predicts, and another time of the same process gives another s. A
    scale of 1 is no guidance.

    The paper also sets the velocity to zero in the first steps ("zero-init"), about 4 % of them for large models. Here
    it is zero for the first part of time, which is independent of the steps. On flow, x then stays where it is. On
    other processes a solver moves x a little: on `vp_cosine` a zero velocity means `x0 = alpha x` and `eps = sigma x`.

    Args:
      conditional, unconditional, scale: as for `classifier_free`.
      zero_init: the fraction of time, from `t_max` on, in which the velocity is zero; a leaf. `(k - 1/2)/n` are the
        first k of n steps of equal length.

    Raises:
      ValueError: as for `classifier_free`.
    """
    rule = ScaledVelocity(as_scale(scale), jnp.asarray(zero_init, float))
    return guided(rule, conditional=conditional, unconditional=unconditional)


@dataclasses.dataclass(frozen=True)
class CFGZeroStar(Guidance):
    """CFG-Zero*, made for flows: `cfg_zero_star` towards everything that is asked for.

    Attributes:
      scale: 1 for no guidance.
      zero_init: the fraction of time, from the noise on, in which the velocity is zero.
      negative: what samples are led away from, NAME=VALUE by the name of a condition; empty for the null conditions.
    """

    scale: float | Schedule = 1.0
    zero_init: float = 0.0
    negative: dict[str, Wish] = dataclasses.field(default_factory=Table)

    def __post_init__(self) -> None:
        object.__setattr__(self, "negative", Table(self.negative))
        finite("scale", self.scale)
        fraction("zero_init", self.zero_init)

    def __call__(self, denoiser_of: Callable[[PyTree], Denoiser], asked: Asked, frozen: Any = None) -> Denoiser:
        if self.scale == 1 and not self.zero_init:
            return denoiser_of(asked.cond)
        asked.require_conditions("scale", self.scale)
        conditional, unconditional = of_conditions(denoiser_of, asked.cond, asked.without(self.negative))
        return cfg_zero_star(conditional, unconditional, self.scale, zero_init=self.zero_init)
