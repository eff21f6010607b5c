"""The grid that a solver takes for a number of steps, as in `solvers.heun(process, 18)`.

    process                                              grid
    the signal falls: `flow`, `vp_linear`, chains, ...   polynomial(rho=2), with a last step to t_clean
    the signal stays: `edm`, `ve`                        karras
    time is a log-SNR: `learned`                         karras

Solvers that need signal at the start take `karras` on the processes that keep a trace of signal at most. Solvers that
also need a finite end take `uniform_log_snr`. docs/solvers.md has the measurements behind this choice.
"""

from typing import Any

import numpy as np

from jaxdiff import trees
from jaxdiff.grids.arguments import SIGMA_MAX, host_process
from jaxdiff.grids.noise_levels import karras
from jaxdiff.grids.time_changes import polynomial
from jaxdiff.grids.uniform import uniform_log_snr
from jaxdiff.processes import Process, Times, on_host

# The share of the signal below which only a trace is left. A VP process with linear betas keeps 0.0066, EDM keeps all,
# and a cosine chain keeps 0.00005.
_TRACE = 1e-3


def loses_signal(process: Process) -> bool:
    """Whether no signal, or a trace of it, is left at `t_max`. Where numbers are traced, `t_noise` alone tells."""
    if np.isfinite(process.t_noise) or trees.traced(process):
        return bool(np.isfinite(process.t_noise))
    known = on_host(process)
    first, last = (known.alpha(np.float64(t)) for t in (known.t_min, known.t_max))
    return bool(last < _TRACE * first)


def own(process: Process, steps: Any, *, signal: bool = False, finite: bool = False) -> Times:
    """The grid for a process and a number of steps, by the table above.

    Args:
      steps: the number of steps, at least 1.
      signal: whether the grid must begin with more than a trace of signal.
      finite: whether the grid must also end at a finite time.

    Raises:
      ValueError: `steps` is not an integer of at least 1.
    """
    process = host_process(process, steps)
    lost = loses_signal(process)
    if finite:
        return uniform_log_snr(process, steps, log_snr_min=-2 * np.log(SIGMA_MAX) if lost else None)
    falls = process.alpha(np.float64(process.t_max)) < process.alpha(np.float64(process.t_min))
    in_time = falls and process.t_min >= 0 and np.isfinite(process.t_clean)
    if not in_time or (signal and lost):
        return karras(process, steps, sigma_max=SIGMA_MAX if lost else None)
    times = polynomial(process, steps)
    times[-1] = process.t_clean
    return times
