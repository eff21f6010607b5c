"""Skip-layer guidance: away from the network without some of its layers."""

import dataclasses
from typing import Any, ClassVar

from jaxdiff.denoisers import Denoiser
from jaxdiff.guidance.guided import GuidedDenoiser
from jaxdiff.guidance.weakened import Weakened, away_from


def skip_layer(
    conditional: Denoiser,
    skipped: Denoiser,
    scale: Any,
    *,
    unconditional: Denoiser | None = None,
    condition_scale: Any = 1.0,
) -> GuidedDenoiser:
    """Skip-layer guidance of a conditional c, a c' whose network lacks some layers, and an unconditional u:

        c + scale (c - c')                                  without u
        u + condition_scale (c - u) + scale (c - c')        with u: classifier-free guidance too

    Hyung et al. 2024 (arXiv 2411.18664), equations 13 to 15, who leave out residual branches of video models. Stable
    Diffusion 3.5 leaves out the blocks 7, 8 and 9 with a scale of 2.8, in the first fifth of the steps. A layer that is
    left out passes its input on. x0 and eps are extrapolated alike.

    Args:
      conditional, skipped: denoisers of the same process, with the same condition.
      scale: 0 for no guidance; a number, `[batch]` or a function `(process, t) -> scale`, as for `classifier_free`.
      unconditional, condition_scale: as for `perturbed_attention`.

    Raises:
      ValueError: as for `perturbed_attention`.
    """
    return away_from(conditional, skipped, scale, unconditional, condition_scale)


@dataclasses.dataclass(frozen=True)
class SkipLayer(Weakened):
    """Skip-layer guidance, with classifier-free guidance beside it: `skip_layer`.

    Attributes:
      layers: the names of the layers that are left out, which must keep the shape of the hidden state.
    """

    setting: ClassVar[str] = "skipped"
