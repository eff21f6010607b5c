"""Rescaled guidance: the guided prediction with the spread of the conditional one."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import PyTree

from jaxdiff import trees
from jaxdiff.checks import fraction, message, one_of, require
from jaxdiff.denoisers import Denoiser
from jaxdiff.guidance.around import Around
from jaxdiff.guidance.estimates import Prediction, predicted, with_prediction
from jaxdiff.guidance.guidance import Asked
from jaxdiff.guidance.guided import GuidedDenoiser, Rule, remembering
from jaxdiff.guidance.memory import first_memory, has_memory
from jaxdiff.parametrizations import Estimate
from jaxdiff.processes import Process


@trees.register
@dataclasses.dataclass(frozen=True)
class Rescaling:
    """The rule of rescaled guidance, around another rule."""

    rule: Rule
    factor: Any
    prediction: Prediction = dataclasses.field(metadata={"static": True})

    def __call__(self, process: Process, x: PyTree, t: Any, c: Estimate, *others: Estimate) -> Estimate:
        """The rescaled estimate."""
        return self.rescaled(process, x, t, c, self.rule(process, x, t, c, *others))

    def rescaled(self, process: Process, x: PyTree, t: Any, c: Estimate, estimate: Estimate) -> Estimate:
        """An estimate whose prediction gets the spread of that of c."""
        wanted, output = (predicted(process, self.prediction, e, t) for e in (c, estimate))
        spread = trees.std(output)
        ratio = jnp.where(spread > 0, trees.std(wanted) / jnp.where(spread > 0, spread, 1), 1)
        output = trees.lincomb((self.factor * ratio + 1 - self.factor,), (output,))
        return with_prediction(process, self.prediction, x, estimate, output, t)


@trees.register
@dataclasses.dataclass(frozen=True)
class RememberingRescaling(Rescaling):
    """The rule of rescaled guidance, around a rule that remembers something."""

    def start(self, x: PyTree) -> Any:
        """The first memory, for data of the shape of x."""
        return first_memory(self.rule, x)

    def with_memory(
        self, memory: Any, process: Process, x: PyTree, t: Any, c: Estimate, *others: Estimate
    ) -> tuple[Estimate, Any]:
        """The rescaled estimate and the next memory."""
        estimate, memory = self.rule.with_memory(memory, process, x, t, c, *others)  # type: ignore[attr-defined]
        return self.rescaled(process, x, t, c, estimate), memory


def rescale(guided: GuidedDenoiser, factor: Any = 0.7, *, prediction: Prediction = "v") -> GuidedDenoiser:
    """Rescaled guidance: the guided prediction F gets the standard deviation of the conditional one.

        F' = factor std(F_c)/std(F) F + (1 - factor) F

    Lin et al. 2023 (arXiv 2305.08891), equations 15 and 16. The standard deviation is that of all numbers of an
    example, unbiased. This costs no evaluation, since the guided denoiser has made the conditional estimate already.

    Args:
      guided: the result of `classifier_free` or of another rule with a conditional and another estimate.
      factor: 0 for no change, 1 for the whole; 0.7 in the paper. A leaf.
      prediction: the prediction whose spread is kept, whatever the network predicts: "v" as in the paper; "x0", "eps"
        or "velocity".

    Raises:
      TypeError: `guided` is no such denoiser.
      ValueError: the prediction is unknown, or the pair of `guided` is not consistent.
    """
    one_of("prediction", prediction, ("x0", "eps", "v", "velocity"))
    if not isinstance(guided, GuidedDenoiser) or len(guided.sources) < 2:
        allowed = "denoisers of rules with several estimates, such as classifier_free(...)"
        raise TypeError(message("guided", guided, allowed))
    require(guided.consistent, "guided", "a pair that is not consistent", "consistent pairs")
    kind = RememberingRescaling if has_memory(guided.rule) else Rescaling
    return remembering(guided.sources, kind(guided.rule, jnp.asarray(factor, float), prediction))


@dataclasses.dataclass(frozen=True)
class Rescale(Around):
    """Guidance whose prediction keeps the spread of the conditional one: `rescale`.

    Attributes:
      rule: the guidance that is rescaled, with a conditional and another estimate.
      factor: 0 for no change, 1 for the whole spread.
      prediction: the prediction whose spread is kept.
    """

    factor: float = 0.7
    prediction: Prediction = "v"

    def __post_init__(self) -> None:
        fraction("factor", self.factor)

    def __call__(self, denoiser_of: Callable[[PyTree], Denoiser], asked: Asked, frozen: Any = None) -> Denoiser:
        guided = self.rule(denoiser_of, asked, frozen)
        if getattr(self.rule, "scale", None) == 1:  # no guidance, so that there is one estimate only
            return guided
        good = isinstance(guided, GuidedDenoiser) and len(guided.sources) > 1 and guided.consistent
        allowed = "rules with a conditional and another estimate, which give consistent pairs"
        require(good, "rule.kind", type(self.rule).__name__, allowed)
        return rescale(guided, self.factor, prediction=self.prediction)  # type: ignore[arg-type]
