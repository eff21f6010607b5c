"""Grids of the indices of a discrete process."""

from typing import Literal

import numpy as np

from jaxdiff import checks
from jaxdiff.grids.arguments import host_process
from jaxdiff.processes import Process, Times, VPDiscrete


def discrete(
    process: Process, steps: int, *, spacing: Literal["trailing", "leading", "linspace"] = "trailing"
) -> Times:
    """`steps` of the indices that a discrete process was trained on, then `t_clean` (index -1), where no noise is left.

    Lin et al. 2024 (arXiv 2305.08891), table 2.

    Args:
      process: a process with T indices, such as `vp_discrete()`.
      steps: the number of indices in the grid, at most T.
      spacing: the place of the indices. "trailing" takes the last index of every block of indices, and so starts from
        pure noise. "leading" takes the first index of every block of `T // steps` indices (DDIM's code), and so starts
        below the last index, the more so if `steps` does not divide T. "linspace" spans the first to the last index.

    Raises:
      TypeError: a process without indices.
      ValueError: more steps than indices, or an unknown spacing.
    """
    process = host_process(process, steps)
    if not isinstance(process, VPDiscrete):
        allowed = "discrete processes (for others use uniform_time)"
        raise TypeError(checks.message("type(process)", type(process).__name__, allowed))
    count = len(process.log_snrs)
    checks.integer("steps", steps, most=count)
    checks.one_of("spacing", spacing, ("trailing", "leading", "linspace"))
    if spacing == "trailing":
        indices = np.round(np.arange(steps, 0, -1) * (count / steps)) - 1
    elif spacing == "leading":
        indices = np.arange(steps - 1, -1, -1) * (count // steps)
    else:
        indices = np.round(np.linspace(count - 1, 0, steps))
    return np.append(indices.astype(np.float64), process.t_clean)
