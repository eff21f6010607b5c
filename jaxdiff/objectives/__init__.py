"""Objectives: pure functions `(params, key, batch) -> (losses [batch], metrics)`, and their parts.

- `denoising`: denoising score matching, for any process, parametrization, weighting and time sampler
- `weightings`: how much each noise level counts in the loss
- `times`: which noise levels are drawn
- `score_matching`: `implicit` and `sliced` score matching of any score function
"""

from jaxdiff.objectives import times, weightings
from jaxdiff.objectives.denoising import denoising, drop_condition
from jaxdiff.objectives.score_matching import implicit, sliced

__all__ = ["denoising", "drop_condition", "implicit", "sliced", "times", "weightings"]
