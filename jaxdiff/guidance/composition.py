"""Composition: several conditions at once, by sums of their differences from the unconditional estimate."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from jaxdiff import trees
from jaxdiff.checks import integer, require
from jaxdiff.components import Table
from jaxdiff.denoisers import Denoiser
from jaxdiff.guidance.both import of_conditions
from jaxdiff.guidance.guidance import Asked, Guidance, Wish
from jaxdiff.guidance.guided import GuidedDenoiser, guided
from jaxdiff.guidance.schedules import Schedule, as_scale, finite, scale_at
from jaxdiff.jitted import as_pytree
from jaxdiff.parametrizations import Estimate
from jaxdiff.processes import Process


@trees.register
@dataclasses.dataclass(frozen=True)
class WeightedSum:
    """The rule `u + sum_i scale_i (c_i - u)`; u comes last."""

    scales: tuple[Any, ...]

    def __call__(self, process: Process, x: PyTree, t: Any, *estimates: Estimate) -> Estimate:
        """The composed estimate."""
        scales = [scale_at(scale, process, x, t) for scale in self.scales]
        weights = (1 - sum(scales[1:], scales[0]), *scales)
        *conditional, unconditional = estimates
        terms = zip(unconditional, *conditional, strict=True)
        return Estimate(*(trees.lincomb(weights, term) for term in terms))


def product(conditional: Sequence[Denoiser], unconditional: Denoiser, scales: Sequence[Any]) -> GuidedDenoiser:
    """Several conditions at once: the estimate `u + sum_i scale_i (c_i - u)`.

    Liu et al. 2022 (arXiv 2206.01714), "Concept Conjunction (AND)". A negative scale is their "Concept Negation (NOT)",
    which leads away from a condition. At each time the score is that of
    `p_u(x_t) prod_i (p_i(x_t)/p_u(x_t))^scale_i`, so that the remarks of `classifier_free` hold: this is exact in
    special cases only. With the denoisers of one call of `both`, of which the unconditional one is the last, the
    network is called once.

    Args:
      conditional: denoisers with a condition each, of the process of `unconditional`.
      unconditional: the denoiser without a condition.
      scales: for each condition a number, `[batch]` or a function `(process, t) -> scale`, as for `classifier_free`.

    Raises:
      ValueError: there are no conditions, or another number of scales; or as for `classifier_free`.
    """
    n = len(conditional)
    integer("number of conditional denoisers", n)
    require(len(scales) == n, "number of scales", len(scales), f"{n}, one for each condition")
    named = {f"conditional[{i}]": denoiser for i, denoiser in enumerate(conditional)}
    return guided(WeightedSum(tuple(map(as_scale, scales))), **named, unconditional=unconditional)


@trees.register
@dataclasses.dataclass(frozen=True)
class PosteriorMean:
    """The rule of mixtures: the mean of the estimates, weighted by the probability that each law made x_t."""

    log_densities: tuple[Callable[[PyTree, Any], Float[Array, " batch"]], ...]

    def __call__(self, process: Process, x: PyTree, t: Any, *estimates: Estimate) -> Estimate:
        """The estimate of the mixture."""
        values = jnp.stack([log_density(x, t) for log_density in self.log_densities])
        n, batch = len(self.log_densities), trees.batch_size(x)
        require(values.shape == (n, batch), "shape of the log-densities", values.shape, f"{(n, batch)}")
        weights = jax.nn.softmax(values, axis=0)
        return Estimate(*(trees.lincomb(list(weights), side) for side in zip(*estimates, strict=True)))


def mixture(
    denoisers: Sequence[Denoiser], log_densities: Sequence[Callable[[PyTree, Any], Float[Array, " batch"]]]
) -> GuidedDenoiser:
    """The mixture of several laws: the mean of their estimates, by the probability that each law made x_t.

        E[x0 | x_t] = sum_i w_i(x_t) E_i[x0 | x_t]        w = softmax_i(log pi_i p_i(x_t))

    This is exact, and needs the noisy densities up to a common factor, which a diffusion model does not tell. A
    classifier of noisy data tells them for classes: `log p(y_i | x_t) + log pi_i/p(y_i)`. Without densities, ask for
    another condition in each example instead.

    Args:
      denoisers: denoisers of one process.
      log_densities: for each of them a function `(x_t, t) -> [batch]`: the logarithm of its weight in the mixture times
        its density at x_t, up to a number that all share. If it is a pytree, its numbers are leaves.

    Raises:
      ValueError: there are no denoisers, another number of densities, or different processes. When the result is
        called: a shape does not fit.
    """
    n = len(denoisers)
    integer("number of denoisers", n)
    require(len(log_densities) == n, "number of log_densities", len(log_densities), f"{n}, one for each denoiser")
    named = {f"denoisers[{i}]": denoiser for i, denoiser in enumerate(denoisers)}
    return guided(PosteriorMean(tuple(map(as_pytree, log_densities))), **named)


@dataclasses.dataclass(frozen=True)
class Term:
    """A wish beside what is asked for, and its scale.

    Attributes:
      ask: the wish, NAME=VALUE by the name of a condition.
      scale: how strongly samples are led to it; below 0 to lead them away.
    """

    ask: dict[str, Wish] = dataclasses.field(default_factory=Table)
    scale: float | Schedule = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "ask", Table(self.ask))
        require(self.ask, "ask", dict(self.ask), "wishes NAME=VALUE by the name of a condition")
        finite("scale", self.scale)


@dataclasses.dataclass(frozen=True)
class Composition(Guidance):
    """Several wishes at once: `product` of what is asked for and of more wishes.

    Attributes:
      scale: how strongly samples are led to what is asked for.
      terms: more wishes, each with a scale of its own.
    """

    scale: float | Schedule = 1.0
    terms: tuple[Term, ...] = ()

    def __post_init__(self) -> None:
        finite("scale", self.scale)

    def __call__(self, denoiser_of: Callable[[PyTree], Denoiser], asked: Asked, frozen: Any = None) -> Denoiser:
        if self.scale == 1 and not self.terms:
            return denoiser_of(asked.cond)
        asked.require_conditions("scale", self.scale)
        wishes = [asked.wish(term.ask) for term in self.terms]
        *conditional, unconditional = of_conditions(denoiser_of, asked.cond, *wishes, asked.null)
        return product(conditional, unconditional, [self.scale, *(term.scale for term in self.terms)])
