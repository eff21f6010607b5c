"""Perturbed-attention guidance: away from the network whose attention sees no other position."""

import dataclasses
from typing import Any, ClassVar

from jaxdiff.denoisers import Denoiser
from jaxdiff.guidance.guided import GuidedDenoiser
from jaxdiff.guidance.weakened import Weakened, away_from


def perturbed_attention(
    conditional: Denoiser,
    perturbed: Denoiser,
    scale: Any,
    *,
    unconditional: Denoiser | None = None,
    condition_scale: Any = 1.0,
) -> GuidedDenoiser:
    """Perturbed-attention guidance (PAG) of a conditional c, a perturbed p and, beside it, an unconditional u:

        c + scale (c - p)                                  without u
        u + condition_scale (c - u) + scale (c - p)        with u: classifier-free guidance too

    Ahn et al. 2024 (arXiv 2403.17377), sections 4.1, 4.2. In chosen layers of the perturbed network the weights of
    self-attention are the identity matrix: every position keeps its own value, so that the picture loses its structure
    and samples are led away from this. The network is told the same conditions. x0 and eps are extrapolated alike.

    Args:
      conditional, perturbed: denoisers of the same process, with the same condition.
      scale: 0 for no guidance; a number, `[batch]` or a function `(process, t) -> scale`, as for `classifier_free`.
      unconditional: the denoiser without the condition; None for no classifier-free guidance. With the `conditional` of
        one call of `both`, the network is called once for the two of them.
      condition_scale: the scale of classifier-free guidance, 1 for none.

    Raises:
      ValueError: the denoisers have different processes, or a scale has more than one axis. When the result is called:
        the length of a scale is not that of the batch.
    """
    return away_from(conditional, perturbed, scale, unconditional, condition_scale)


@dataclasses.dataclass(frozen=True)
class PerturbedAttention(Weakened):
    """Perturbed-attention guidance, with classifier-free guidance beside it: `perturbed_attention`.

    Attributes:
      layers: the names of the attention layers that are perturbed. Ahn et al. perturb the bottom of a U-Net.
    """

    setting: ClassVar[str] = "perturbed"
    layers: tuple[str, ...] = ("mid_attention",)
