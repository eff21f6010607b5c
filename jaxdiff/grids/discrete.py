"""The indices of a discrete process."""

from typing import Literal

import numpy as np

from jaxdiff.grids.checks import check_process_and_steps
from jaxdiff.processes import Process, Times, VPDiscrete


def discrete(
    process: Process, steps: int, *, spacing: Literal["trailing", "leading", "linspace"] = "trailing"
) -> Times:
    """`steps` of the indices that a discrete process was trained on, then `t_clean` (index -1), where no noise is left.

    Lin et al. 2024 (arXiv 2305.08891), table 2. "trailing" ends every block of indices, and so starts from pure noise;
    "leading" begins every block of `T // steps` of them (DDIM's code), and so starts below the last index, the more so
    where `steps` does not divide T; "linspace" spans first to last.

    Raises:
      TypeError: a process without indices.
      ValueError: more steps than indices, or an unknown spacing.
    """
    process = check_process_and_steps(process, steps)
    if not isinstance(process, VPDiscrete):
        raise TypeError(
            f"grids.discrete needs a discrete process, not {type(process).__name__}; `uniform_time` is for others"
        )
    count = len(process.log_snrs)
    if steps > count:
        raise ValueError(f"steps = {steps}; {type(process).__name__} has {count} indices and allows no more")
    if spacing == "trailing":
        indices = np.round(np.arange(steps, 0, -1) * (count / steps)) - 1
    elif spacing == "leading":
        indices = np.arange(steps - 1, -1, -1) * (count // steps)
    elif spacing == "linspace":
        indices = np.round(np.linspace(count - 1, 0, steps))
    else:
        raise ValueError(f"spacing = {spacing!r}; allowed are 'trailing', 'leading' and 'linspace'")
    return np.append(indices.astype(np.float64), process.t_clean)
