"""Guidance in an interval of noise levels."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from jaxdiff import loops, trees
from jaxdiff.checks import message, require
from jaxdiff.denoisers import Denoiser, evaluate, is_consistent
from jaxdiff.guidance.around import Around
from jaxdiff.guidance.estimates import choose
from jaxdiff.guidance.guidance import Asked
from jaxdiff.guidance.memory import Remembering, first_memory, has_memory, remember
from jaxdiff.parametrizations import Estimate
from jaxdiff.processes import Process, same_process


@trees.register
@dataclasses.dataclass(frozen=True)
class IntervalDenoiser:
    """The denoiser of guidance in an interval. `interval` makes it."""

    guided: Denoiser
    unguided: Denoiser
    low: Any
    high: Any

    @property
    def process(self) -> Process:
        """The process of both denoisers."""
        return self.guided.process

    @property
    def consistent(self) -> bool:
        """Whether both give consistent pairs."""
        return is_consistent(self.guided) and is_consistent(self.unguided)

    def __call__(self, x: PyTree, t: Any, s: Any = None) -> Any:
        return self._chosen(t, *(lambda d=d: _wide(evaluate(d, x, t, s)) for d in (self.guided, self.unguided)))

    def _chosen(self, t: Any, guided: Callable[[], PyTree], unguided: Callable[[], PyTree]) -> PyTree:
        """The result of one of two functions, by the noise level at t."""
        t = jnp.asarray(t)
        level = self.process.sigma(t) / self.process.alpha(t)  # infinite without signal
        inside = (level > self.low) & (level <= self.high)
        if inside.ndim:
            return choose(inside, guided(), unguided())
        return loops.cond(inside, guided, unguided)


def _wide(estimate: Estimate) -> Estimate:
    """The estimate in float32 or wider, so that both branches give the same types."""
    return Estimate(*jax.tree.map(lambda leaf: leaf.astype(trees.wide(leaf)), (estimate.x0, estimate.eps)))


@trees.register
@dataclasses.dataclass(frozen=True)
class RememberingIntervalDenoiser(Remembering, IntervalDenoiser):
    """Guidance in an interval with a denoiser that remembers something. Outside of the interval the memory stays."""

    def start(self, x: PyTree) -> tuple[Any, Any]:
        """The first memory, for data of the shape of x."""
        return first_memory(self.guided, x), first_memory(self.unguided, x)

    def with_memory(self, memory: tuple[Any, Any], x: PyTree, t: Any) -> tuple[Any, tuple[Any, Any]]:
        """The estimate and the next memory."""
        guided, unguided = memory

        def inside() -> tuple[Any, tuple[Any, Any]]:
            estimate, after = remember(self.guided, guided, x, t)
            return _wide(estimate), (after, unguided)

        def outside() -> tuple[Any, tuple[Any, Any]]:
            estimate, after = remember(self.unguided, unguided, x, t)
            return _wide(estimate), (guided, after)

        found: tuple[Any, tuple[Any, Any]] = self._chosen(t, inside, outside)
        return found


def interval(guided: Denoiser, unguided: Denoiser, low: Any, high: Any) -> IntervalDenoiser:
    """Guidance where the noise level `sigma/alpha` lies in `(low, high]`, and none elsewhere.

        conditional, unconditional = ...
        limited = interval(classifier_free(conditional, unconditional, 2.0), conditional, 0.2, 5.0)

    Kynkaanniemi et al. 2024 (arXiv 2404.07724), equations 5 and 6, whose noise level is EDM's sigma. For ImageNet-512
    they guide EDM2-S in (0.28, 2.9] by 2.1. Samplers give one time for the whole batch, so that a step evaluates one of
    the two denoisers alone (`jax.lax.cond`). With a time for each example, and under `jax.vmap` over the time or the
    ends, both are evaluated.

    Args:
      guided: the denoiser inside of the interval, with guidance of any kind.
      unguided: the denoiser outside of the interval, usually the conditional one.
      low, high: the ends of the interval: numbers, or `[batch]`. They are leaves. `high` may be infinite.

    Raises:
      ValueError: the denoisers have different processes.
    """
    if not same_process(guided.process, unguided.process):
        allowed = f"the process of guided, {guided.process}"
        raise ValueError(message("unguided.process", unguided.process, allowed))
    remembers = has_memory(guided) or has_memory(unguided)
    kind = RememberingIntervalDenoiser if remembers else IntervalDenoiser
    return kind(guided, unguided, jnp.asarray(low, float), jnp.asarray(high, float))


@dataclasses.dataclass(frozen=True)
class Interval(Around):
    """Guidance in an interval of noise levels, and none elsewhere: `interval`.

    Attributes:
      rule: the guidance inside of the interval.
      low: the noise level `sigma/alpha` above which the rule guides, at least 0.
      high: the noise level up to which the rule guides, above `low`.
    """

    low: float = 0.0
    high: float = math.inf

    def __post_init__(self) -> None:
        require(0 <= self.low < math.inf, "low", self.low, "finite numbers of at least 0")
        require(self.high > self.low, "high", self.high, f"numbers above low = {self.low}")

    def __call__(self, denoiser_of: Callable[[PyTree], Denoiser], asked: Asked, frozen: Any = None) -> Denoiser:
        guided = self.rule(denoiser_of, asked, frozen)
        return interval(guided, denoiser_of(asked.cond), self.low, self.high)
