"""Guidance away from the estimates of the same network with some layers weakened: what its rules share."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, Self

from jaxtyping import PyTree

from jaxdiff import trees
from jaxdiff.checks import message, require
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
class Away:
    """The rule `u + condition_scale (c - u) + scale (c - w)`; without u, `c + scale (c - w)`."""

    scale: Any
    condition_scale: Any

    def __call__(self, process: Process, x: PyTree, t: Any, c: Estimate, *others: Estimate) -> Estimate:
        """The guided estimate, of the conditional one, the unconditional one if there is one, and the weak one."""
        scale = scale_at(self.scale, process, x, t)
        if len(others) == 1:
            factors: tuple[Any, ...] = (1 + scale, -scale)
        else:
            towards = scale_at(self.condition_scale, process, x, t)
            factors = (towards + scale, 1 - towards, -scale)
        return Estimate(*(trees.lincomb(factors, parts) for parts in zip(c, *others, strict=True)))


def away_from(
    conditional: Denoiser,
    weak: Denoiser,
    scale: Any,
    unconditional: Denoiser | None = None,
    condition_scale: Any = 1.0,
) -> GuidedDenoiser:
    """The denoiser of `Away`. The arguments and errors are those of `perturbed_attention`."""
    rule = Away(as_scale(scale), as_scale(condition_scale))
    if unconditional is None:
        return guided(rule, conditional=conditional, weak=weak)
    return guided(rule, conditional=conditional, unconditional=unconditional, weak=weak)


@dataclasses.dataclass(frozen=True)
class Weakened(Guidance):
    """The base of rules that lead away from the same network with some layers weakened.

    Attributes:
      setting: the setting of the network that names the weakened layers.
      layers: the names of the layers.
      scale: the scale of this guidance, 0 for none.
      condition_scale: the scale of classifier-free guidance beside it, 1 for none.
      negative: what classifier-free guidance leads away from, NAME=VALUE by the name of a condition; empty for the null
        conditions.
    """

    setting: ClassVar[str]
    layers: tuple[str, ...]
    scale: float | Schedule = 3.0
    condition_scale: float | Schedule = 1.0
    negative: dict[str, Wish] = dataclasses.field(default_factory=Table)

    def __post_init__(self) -> None:
        object.__setattr__(self, "negative", Table(self.negative))
        require(self.layers, "layers", self.layers, "names of at least one layer")
        finite("scale", self.scale)
        finite("condition_scale", self.condition_scale)

    def unasked(self) -> Self:
        return dataclasses.replace(self, condition_scale=1.0, negative=Table())

    def __call__(self, denoiser_of: Callable[[PyTree], Denoiser], asked: Asked, frozen: Any = None) -> Denoiser:
        changed = getattr(denoiser_of, "with_network", None)
        if changed is None:
            raise ValueError(message("layers", self.layers, "none, since the denoiser does not show its network"))
        weak = changed(**{self.setting: self.layers})(asked.cond)
        if self.condition_scale == 1:
            return away_from(denoiser_of(asked.cond), weak, self.scale)
        asked.require_conditions("condition_scale", self.condition_scale)
        conditional, unconditional = of_conditions(denoiser_of, asked.cond, asked.without(self.negative))
        return away_from(conditional, weak, self.scale, unconditional, self.condition_scale)
