"""Denoisers that combine several estimates of one point by a rule.

A guidance rule needs a conditional and an unconditional estimate, or those of a strong and a weak model, or one
estimate that it changes. `guided` makes the denoiser. The rule is a pytree of numbers, and it is called as

    rule(process, x, t, *estimates) -> Estimate

A rule that remembers something between the steps of a sampler has two more methods: `start(x)` gives the first memory,
and `with_memory(memory, process, x, t, *estimates)` gives the estimate and the next memory.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterable
from typing import Any

import jax.numpy as jnp
from jaxtyping import PyTree

from jaxdiff import trees
from jaxdiff.checks import message
from jaxdiff.denoisers import Denoiser, evaluate, is_consistent
from jaxdiff.guidance.both import RowDenoiser, Together
from jaxdiff.guidance.memory import Remembering, first_memory, has_memory, remember
from jaxdiff.parametrizations import Estimate
from jaxdiff.processes import Process, same_process

# A function `(process, x, t, *estimates) -> Estimate`, a pytree.
Rule = Callable[..., Estimate]


@trees.register
@dataclasses.dataclass(frozen=True)
class Each:
    """Denoisers that are evaluated one after the other. A `Together` among them stands for several denoisers."""

    denoisers: tuple[Any, ...]

    @property
    def process(self) -> Process:
        """The process of all denoisers."""
        return self.denoisers[0].process

    @property
    def consistent(self) -> bool:
        """Whether all estimates are consistent pairs."""
        return all(map(is_consistent, self.denoisers))

    def __len__(self) -> int:
        return sum(len(one) if isinstance(one, Together) else 1 for one in self.denoisers)

    def __call__(self, x: PyTree, t: Any, s: Any = None) -> tuple[Estimate, ...]:
        """The estimates of all denoisers."""
        return self._flat(evaluate(denoiser, x, t, s) for denoiser in self.denoisers)

    def start(self, x: PyTree) -> tuple[Any, ...]:
        """The first memories of all denoisers."""
        return tuple(first_memory(denoiser, x) for denoiser in self.denoisers)

    def with_memory(self, memories: tuple[Any, ...], x: PyTree, t: Any) -> tuple[tuple[Estimate, ...], tuple[Any, ...]]:
        """The estimates and the next memories of all denoisers."""
        pairs = zip(self.denoisers, memories, strict=True)
        estimates, memories = zip(*(remember(denoiser, memory, x, t) for denoiser, memory in pairs), strict=True)
        return self._flat(estimates), memories

    def _flat(self, found: Iterable[Any]) -> tuple[Estimate, ...]:
        pairs = zip(self.denoisers, found, strict=True)
        parts = (given if isinstance(denoiser, Together) else (given,) for denoiser, given in pairs)
        return tuple(itertools.chain.from_iterable(parts))


@trees.register
@dataclasses.dataclass(frozen=True)
class GuidedDenoiser:
    """The denoiser that a rule makes of several estimates. `guided` makes it."""

    sources: Each | Together
    rule: Rule

    @property
    def process(self) -> Process:
        """The process of all estimates."""
        return self.sources.process

    @property
    def consistent(self) -> bool:
        """Whether x0 and eps are a consistent pair."""
        return self.sources.consistent and getattr(self.rule, "consistent", True)

    def __call__(self, x: PyTree, t: Any, s: Any = None) -> Estimate:
        t = jnp.asarray(t)
        return self.rule(self.process, x, t, *self.sources(x, t, s))


@trees.register
@dataclasses.dataclass(frozen=True)
class RememberingDenoiser(Remembering, GuidedDenoiser):
    """A guided denoiser whose rule, or one of whose denoisers, remembers something between the steps of a sampler."""

    def start(self, x: PyTree) -> tuple[Any, Any]:
        """The first memory, for data of the shape of x."""
        sources = self.sources.start(x) if isinstance(self.sources, Each) else ()
        return first_memory(self.rule, x), sources

    def with_memory(self, memory: tuple[Any, Any], x: PyTree, t: Any) -> tuple[Estimate, tuple[Any, Any]]:
        """The estimate and the next memory."""
        (own, sources), t = memory, jnp.asarray(t)
        if isinstance(self.sources, Each):
            estimates, sources = self.sources.with_memory(sources, x, t)
        else:
            estimates = self.sources(x, t)
        if not has_memory(self.rule):
            return self.rule(self.process, x, t, *estimates), (own, sources)
        estimate, own = self.rule.with_memory(own, self.process, x, t, *estimates)  # type: ignore[attr-defined]
        return estimate, (own, sources)


def guided(rule: Rule, **denoisers: Denoiser) -> GuidedDenoiser:
    """The denoiser that a rule makes of the estimates of several denoisers.

    Args:
      rule: a pytree that is called as at the top of this file.
      denoisers: denoisers of one process, by the names that errors call them. If the first of them are all the
        denoisers of one call of `both`, they are evaluated in one call.

    Raises:
      ValueError: the denoisers have different processes. Numbers that JAX is tracing are not compared.
    """
    first_name, first = next(iter(denoisers.items()))
    for name, denoiser in denoisers.items():
        if not same_process(first.process, denoiser.process):
            allowed = f"the process of {first_name}, {first.process}"
            raise ValueError(message(f"{name}.process", denoiser.process, allowed))
    return remembering(_sources(tuple(denoisers.values())), rule)


def remembering(sources: Each | Together, rule: Rule) -> GuidedDenoiser:
    """The denoiser of a rule, with a memory if the rule or one of its denoisers remembers something."""
    remembers = has_memory(rule) or (isinstance(sources, Each) and any(map(has_memory, sources.denoisers)))
    return (RememberingDenoiser if remembers else GuidedDenoiser)(sources, rule)


def _sources(denoisers: tuple[Denoiser, ...]) -> Each | Together:
    """The denoisers, of which the first are evaluated together if they are all those of one call of `both`."""
    if isinstance(denoisers[0], RowDenoiser):
        together = denoisers[0].together
        first, others = denoisers[: together.n], denoisers[together.n :]
        rows = [d.index for d in first if isinstance(d, RowDenoiser) and d.together is together]
        if rows == list(range(together.n)):
            return Each((together, *others)) if others else together
    return Each(denoisers)
