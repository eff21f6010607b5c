"""Noise levels that were optimised for published models."""

from typing import Literal

import numpy as np

from jaxdiff import checks
from jaxdiff.grids.arguments import host_process, ratio
from jaxdiff.grids.noise_levels import ROUNDING, from_sigmas
from jaxdiff.processes import Process, Times

# Sabour et al. 2024, appendix B.3, table 3: sigma/alpha from noise to data.
_LEVELS = {
    "sd15": (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029),
    "sdxl": (14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029),
    "svd": (700.00, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034, 0.002),
}


def align_your_steps(process: Process, steps: int, *, model: Literal["sd15", "sdxl", "svd"] = "sd15") -> Times:
    """The noise levels optimised for Stable Diffusion 1.5, SDXL or Stable Video Diffusion, then 0.

    Sabour et al. 2024 (Align Your Steps, arXiv 2404.14507), table 3, which is for 10 steps. For another number of
    steps, the logarithms of the levels are interpolated linearly over equal steps, as the authors advise. The last
    level of the table (0.029 or 0.002) is replaced by 0, as in common use, so that `steps` evaluations end without
    noise.

    "sd15" and "sdxl" are for `processes.vp_discrete("scaled_linear")`, "svd" for `processes.edm(0.002, 700.0)`. Any
    other process that reaches the levels is allowed. The grid starts at the first level of the table, which may lie
    below `t_max`.

    Args:
      steps: the number of steps, at least 1.
      model: the model that the levels were optimised for.

    Raises:
      ValueError: an unknown model, or a process that does not reach the first level.
    """
    process = host_process(process, steps)
    checks.one_of("model", model, _LEVELS)
    levels = np.log(_LEVELS[model])
    levels = np.exp(np.interp(np.linspace(0, 1, steps + 1), np.linspace(0, 1, len(levels)), levels))
    highest = ratio(process, process.t_max)
    if levels[0] > highest * (1 + ROUNDING):
        ends = f"{type(process).__name__} with sigma/alpha = {highest:g} at t_max"
        raise ValueError(f"process = {ends}; allowed are processes that reach {levels[0]:g}, the start of {model!r}")
    return from_sigmas(process, np.append(levels[:-1], 0.0))
