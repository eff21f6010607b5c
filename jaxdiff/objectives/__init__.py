"""Objectives: pure functions that give losses, and the components that name them in a preset.

- `objective`: the interface of the components, `(params, key, batch, context) -> Loss`
- `denoising`: denoising score matching, for any process, parametrization, weighting and time sampler
- `weightings`: how much each noise level counts in the loss; `times`: which noise levels are drawn
- `variational`: VDM's bound, with a learned schedule; `hybrid`: iDDPM's loss, with learned variances
- `score_matching`: `implicit` and `sliced` score matching of any score function
- `cross_entropy`, `reconstruction`, `contrastive`: for classifiers, autoencoders and embeddings
- `kl_reconstruction`: for the autoencoders of latent diffusion, with a perceptual distance and a discriminator
- `own`: a loss of your own, `from_function`; `recorded`: batch statistics and other values that a network changes
"""

from jaxdiff.objectives import times, weightings
from jaxdiff.objectives.contrastive import Contrastive, info_nce
from jaxdiff.objectives.cross_entropy import CrossEntropy, cross_entropy
from jaxdiff.objectives.denoising import Denoising, denoising, drop_condition
from jaxdiff.objectives.hybrid import Hybrid
from jaxdiff.objectives.kl_reconstruction import KLReconstruction
from jaxdiff.objectives.objective import Context, Group, Loss, Objective
from jaxdiff.objectives.own import from_function
from jaxdiff.objectives.reconstruction import Reconstruction
from jaxdiff.objectives.score_matching import implicit, sliced
from jaxdiff.objectives.variational import Variational

__all__ = [
    "Context",
    "Contrastive",
    "CrossEntropy",
    "Denoising",
    "Group",
    "Hybrid",
    "KLReconstruction",
    "Loss",
    "Objective",
    "Reconstruction",
    "Variational",
    "cross_entropy",
    "denoising",
    "drop_condition",
    "from_function",
    "implicit",
    "info_nce",
    "sliced",
    "times",
    "weightings",
]
