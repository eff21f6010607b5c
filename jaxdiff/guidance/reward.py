"""Guidance by the gradient of a reward of the denoised estimate."""

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, Self

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from jaxdiff import trees
from jaxdiff.checks import require
from jaxdiff.components import Choices
from jaxdiff.denoisers import Denoiser, evaluate, is_consistent
from jaxdiff.guidance.classifier import gradient_of
from jaxdiff.guidance.classifier_free import ClassifierFree
from jaxdiff.guidance.estimates import with_score
from jaxdiff.guidance.guidance import Asked, Guidance
from jaxdiff.guidance.memory import Remembering, first_memory, has_memory, remember
from jaxdiff.guidance.schedules import Schedule, as_scale, finite, scale_at
from jaxdiff.jitted import as_pytree
from jaxdiff.parametrizations import Estimate
from jaxdiff.processes import Process

# A function `(x0) -> [batch]` as a setting, one of `guidance.rewards` or of the user's own, with its options.
RewardChoice = Annotated[Callable[..., jax.Array], Choices("jaxdiff.guidance.rewards", ("x0",))]


@trees.register
@dataclasses.dataclass(frozen=True)
class RewardDenoiser:
    """The denoiser of guidance by a reward. `reward` makes it."""

    denoiser: Denoiser
    function: Callable[[PyTree], Float[Array, " batch"]]
    scale: Any

    @property
    def process(self) -> Process:
        """The process of the denoiser."""
        return self.denoiser.process

    @property
    def consistent(self) -> bool:
        """Whether x0 and eps are a consistent pair."""
        return is_consistent(self.denoiser)

    def __call__(self, x: PyTree, t: Any, s: Any = None) -> Estimate:
        return self._climbed(lambda x: (evaluate(self.denoiser, x, t, s), ()), x, t)[0]

    def _climbed(self, estimate_at: Callable[[PyTree], tuple[Estimate, Any]], x: PyTree, t: Any) -> Any:
        """The estimate after the gradient, and the memory."""

        def rewarded(x: PyTree) -> tuple[Any, Any]:
            estimate, memory = estimate_at(x)
            return self.function(estimate.x0), (estimate, memory)

        t = jnp.asarray(t)
        gradient, (estimate, memory) = gradient_of(rewarded, "reward(x0)", x)
        scale = scale_at(self.scale, self.process, x, t)
        return with_score(self.process, estimate, gradient, scale, t), memory


@trees.register
@dataclasses.dataclass(frozen=True)
class RememberingRewardDenoiser(Remembering, RewardDenoiser):
    """Guidance by a reward of a denoiser that remembers something."""

    def start(self, x: PyTree) -> Any:
        """The first memory, for data of the shape of x."""
        return first_memory(self.denoiser, x)

    def with_memory(self, memory: Any, x: PyTree, t: Any) -> tuple[Estimate, Any]:
        """The estimate and the next memory."""
        found: tuple[Estimate, Any] = self._climbed(lambda x: remember(self.denoiser, memory, x, t), x, t)
        return found


def reward(denoiser: Denoiser, function: Callable[[PyTree], Float[Array, " batch"]], scale: Any) -> RewardDenoiser:
    """Guidance by a reward: the score grows by `scale grad_x r(x0(x, t))`, through the denoiser.

        eps' = eps - scale sigma grad        x0' = x0 + scale sigma^2/alpha grad

    Bansal et al. 2023 (arXiv 2302.07121), equation 6, with a reward in the place of a loss. This leads to data with the
    density `p(x0) exp(scale r(x0))`. It is exact for a reward that is linear in x0 and Gaussian data. Otherwise it is
    approximate, since the reward of the mean of x0 stands for the log-mean of exp(scale r) over all x0. A step costs an
    evaluation and a derivative of the denoiser.

    Args:
      denoiser: the denoiser, with or without guidance.
      function: a function `x0 -> [batch]` that JAX can differentiate. `x0` is in the space of the model, `[batch,
        *event]`. If the function is a pytree, its numbers are leaves.
      scale: a number, `[batch]` or a function `(process, t) -> scale`, as for `classifier_free`.

    Raises:
      TypeError: `function` is not callable.
      ValueError: `scale` has more than one axis. When the result is called: a shape does not fit.
    """
    require(callable(function), "function", function, "functions x0 -> [batch]", TypeError)
    kind = RememberingRewardDenoiser if has_memory(denoiser) else RewardDenoiser
    return kind(denoiser, as_pytree(function), as_scale(scale))


@dataclasses.dataclass(frozen=True)
class RewardGuidance(Guidance):
    """Guidance by the gradient of a reward of the denoised estimate: `reward`.

    Attributes:
      reward: the function `x0 -> [batch]`, one of `guidance.rewards` or of your own, annotated with the result
        `jax.Array`. It sees data in the space of the model.
      scale: the scale of the gradient.
      rule: the guidance to which the gradient is added.
    """

    reward: RewardChoice
    scale: float | Schedule = 1.0
    rule: Guidance = ClassifierFree()

    def __post_init__(self) -> None:
        finite("scale", self.scale)

    @property
    def consistent(self) -> bool:
        return self.rule.consistent

    def load(self, open: Callable[[str], Any]) -> Any:
        return self.rule.load(open)

    def unasked(self) -> Self:
        return dataclasses.replace(self, rule=self.rule.unasked() or ClassifierFree())

    def __call__(self, denoiser_of: Callable[[PyTree], Denoiser], asked: Asked, frozen: Any = None) -> Denoiser:
        return reward(self.rule(denoiser_of, asked, frozen), self.reward, self.scale)
