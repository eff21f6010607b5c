"""Autoguidance: away from the estimate of a worse model."""

import dataclasses
from collections.abc import Callable
from typing import Any, Self

from jaxtyping import PyTree

from jaxdiff.checks import message, require
from jaxdiff.components import Part
from jaxdiff.denoisers import Denoiser
from jaxdiff.guidance.classifier_free import Extrapolation
from jaxdiff.guidance.frozen import opened, parts_of
from jaxdiff.guidance.guidance import Asked, Guidance
from jaxdiff.guidance.guided import GuidedDenoiser, guided
from jaxdiff.guidance.schedules import Schedule, as_scale, finite


def autoguidance(strong: Denoiser, weak: Denoiser, scale: Any) -> GuidedDenoiser:
    """Autoguidance: the estimate `weak + scale (strong - weak)`.

    Karras et al. 2024 (arXiv 2406.02507), equation 3. The weak model has the same task as the strong one, and makes the
    same errors more strongly: it is smaller, or less trained, or both. An unconditional weak model makes this the
    classifier-free guidance of EDM2. A step evaluates both models.

    Args:
      strong, weak: denoisers of the same process, with the same condition.
      scale: 1 for the strong model alone; a number, `[batch]` or a function `(process, t) -> scale`, as for
        `classifier_free`.

    Raises:
      ValueError: the denoisers have different processes, or `scale` has more than one axis. When the result is called:
        the length of `scale` is not that of the batch.
    """
    return guided(Extrapolation(as_scale(scale)), strong=strong, weak=weak)


@dataclasses.dataclass(frozen=True)
class Autoguidance(Guidance):
    """Guidance away from the estimate of a worse run: `autoguidance`.

    The run must have the process and the codec of the model. It is asked for the same as the model, as far as it has
    the conditions.

    Attributes:
      run: the run directory of the weak model.
      scale: 1 for no guidance.
    """

    run: Part
    scale: float | Schedule = 2.0

    def __post_init__(self) -> None:
        finite("scale", self.scale)

    def load(self, open: Callable[[str], Any]) -> Any:
        return parts_of(open, self.run)

    def unasked(self) -> Self:
        return self

    def __call__(self, denoiser_of: Callable[[PyTree], Denoiser], asked: Asked, frozen: Any = None) -> Denoiser:
        model = opened(frozen, "run", self.run)
        good = hasattr(model, "denoiser_of") and hasattr(model, "encode")
        require(good, "run", self.run, "runs of a model that is sampled")
        try:
            told = model.encode(asked.entries)
        except KeyError as absent:
            allowed = "runs of a model whose conditions this model has too"
            raise ValueError(message("run", f"{self.run}, with a condition on {absent}", allowed)) from absent
        weak = model.denoiser_of(told)
        return autoguidance(denoiser_of(asked.cond), weak, self.scale)
