"""InstructPix2Pix: one scale for a picture and one for an instruction."""

import dataclasses
from collections.abc import Callable
from typing import Any

from jaxtyping import PyTree

from jaxdiff import trees
from jaxdiff.checks import did_you_mean, require
from jaxdiff.denoisers import Denoiser
from jaxdiff.guidance.both import of_conditions
from jaxdiff.guidance.guidance import Asked, Guidance
from jaxdiff.guidance.guided import GuidedDenoiser, guided
from jaxdiff.guidance.schedules import Schedule, as_scale, finite, scale_at
from jaxdiff.parametrizations import Estimate
from jaxdiff.processes import Process


@trees.register
@dataclasses.dataclass(frozen=True)
class TwoScales:
    """The rule `u + picture_scale (p - u) + scale (c - p)`."""

    scale: Any
    picture_scale: Any

    def __call__(self, process: Process, x: PyTree, t: Any, c: Estimate, p: Estimate, u: Estimate) -> Estimate:
        """The guided estimate, of those with everything, with the picture alone, and with nothing."""
        scale, picture_scale = (scale_at(one, process, x, t) for one in (self.scale, self.picture_scale))
        factors = (scale, picture_scale - scale, 1 - picture_scale)
        return Estimate(*(trees.lincomb(factors, parts) for parts in zip(c, p, u, strict=True)))


def instruct_pix2pix(
    conditional: Denoiser, pictured: Denoiser, unconditional: Denoiser, scale: Any, picture_scale: Any
) -> GuidedDenoiser:
    """Guidance by an instruction that edits a picture: one scale for the instruction and one for the picture.

        u + picture_scale (p - u) + scale (c - p)

    c is told the picture and the instruction, p the picture alone, and u nothing. Brooks et al. 2022 (arXiv
    2211.09800), section 3.2.1, equation 3. The picture scale says how much of the picture stays, and the scale how
    strongly the instruction changes the picture. The published code has 1.5 and 7.5. Two scales of 1 are no guidance.
    With equal scales this is `classifier_free` of c and u. x0 and eps are extrapolated alike. With the three denoisers
    of one call of `both`, the network is called once.

    Args:
      conditional, pictured, unconditional: denoisers of the same process: c, p and u.
      scale: the scale of the instruction; a number, `[batch]` or a function `(process, t) -> scale`, as for
        `classifier_free`.
      picture_scale: the scale of the picture, likewise.

    Raises:
      ValueError: as for `classifier_free`.
    """
    rule = TwoScales(as_scale(scale), as_scale(picture_scale))
    return guided(rule, conditional=conditional, pictured=pictured, unconditional=unconditional)


@dataclasses.dataclass(frozen=True)
class InstructPix2Pix(Guidance):
    """Guidance by an instruction that edits a picture: `instruct_pix2pix`.

    All other conditions are what is asked for in the three estimates.

    Attributes:
      picture: the name of the condition of the picture.
      instruction: the name of the condition of the instruction, such as a text or a class.
      scale: the scale of the instruction, 1 for no guidance.
      picture_scale: the scale of the picture, 1 for no guidance.
    """

    picture: str = "picture"
    instruction: str = "text"
    scale: float | Schedule = 7.5
    picture_scale: float | Schedule = 1.5

    def __post_init__(self) -> None:
        require(self.picture != self.instruction, "instruction", self.instruction, "another condition than the picture")
        finite("scale", self.scale)
        finite("picture_scale", self.picture_scale)

    def __call__(self, denoiser_of: Callable[[PyTree], Denoiser], asked: Asked, frozen: Any = None) -> Denoiser:
        for setting, name in (("picture", self.picture), ("instruction", self.instruction)):
            known = f"conditions of the model: {', '.join(asked.cond) or 'none'}"
            require(name in asked.cond, setting, name, known + did_you_mean(name, asked.cond))
        if self.scale == self.picture_scale == 1:
            return denoiser_of(asked.cond)
        pictured = {**asked.cond, self.instruction: asked.null[self.instruction]}
        nothing = {**pictured, self.picture: asked.null[self.picture]}
        conditional, only, unconditional = of_conditions(denoiser_of, asked.cond, pictured, nothing)
        return instruct_pix2pix(conditional, only, unconditional, self.scale, self.picture_scale)
