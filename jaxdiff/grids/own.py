"""The grid that a solver takes for a number of steps, as in `solvers.heun(process, 18)`.

    process                                              grid
    the signal falls: `flow`, `vp_linear`, chains, ...   polynomial(rho=2), with a last step to t_clean
    the signal stays: `edm`, `ve`                        karras
    time is a log-SNR: `learned`                         karras

Solvers that need some signal at the start take `karras` on the processes that lose all signal. Solvers that also need
a finite end take `uniform_log_snr`. docs/solvers.md has the measurements behind this choice.
"""

from typing import Any

import numpy as np

from jaxdiff.grids.arguments import host_process
from jaxdiff.grids.noise_levels import karras
from jaxdiff.grids.time_changes import polynomial
from jaxdiff.grids.uniform import uniform_log_snr
from jaxdiff.processes import Process, Times


def loses_signal(process: Process) -> bool:
    """Whether no signal is left at the noisy end of the process's time, at `t_noise`."""
    return bool(np.isfinite(process.t_noise))


def own(process: Process, steps: Any, *, signal: bool = False, finite: bool = False) -> Times:
    """The grid for a process and a number of steps, by the table above.

    Args:
      steps: the number of steps, at least 1.
      signal: whether the grid must begin with some signal, `alpha > 0`.
      finite: whether the grid must also end at a finite time.

    Raises:
      ValueError: `steps` is not an integer of at least 1.
    """
    process = host_process(process, steps)
    if finite:
        return uniform_log_snr(process, steps)
    falls = process.alpha(np.float64(process.t_max)) < process.alpha(np.float64(process.t_min))
    in_time = falls and process.t_min >= 0 and np.isfinite(process.t_clean)
    if not in_time or (signal and loses_signal(process)):
        return karras(process, steps)
    times = polynomial(process, steps)
    times[-1] = process.t_clean
    return times
