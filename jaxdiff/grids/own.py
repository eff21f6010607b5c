"""The grid that a solver takes for a number of steps, as in `solvers.heun(process, 18)`.

    process                             grid                                    for solvers that need signal
    DDPM's chain                        discrete, "trailing"                    the same
    all signal is lost (`flow`, ...)    polynomial(rho=2), down to t_clean      karras
    some signal is always left          karras                                  the same

Solvers that need signal divide by alpha. Solvers that need a finite end, too, take `uniform_log_snr` in the place of
the last two lines. The choice is that of docs/solvers.md, where it was measured.
"""

import numpy as np

from jaxdiff.grids.arguments import host_process
from jaxdiff.grids.discrete import discrete
from jaxdiff.grids.noise_levels import karras
from jaxdiff.grids.time_changes import polynomial
from jaxdiff.grids.uniform import uniform_log_snr
from jaxdiff.processes import Process, Times, VPDiscrete


def loses_signal(process: Process) -> bool:
    """Whether no signal is left at the noisy end of the process's time, at `t_noise`."""
    return bool(np.isfinite(process.t_noise))


def own(process: Process, steps: int, *, signal: bool = False, finite: bool = False) -> Times:
    """The grid for a process and a number of steps, by the table above.

    Args:
      steps: the number of steps, at least 1.
      signal: whether the grid must begin with some signal, `alpha > 0`.
      finite: whether the grid must also end at a finite time.

    Raises:
      ValueError: `steps` is not an integer of at least 1, or more than the length of a chain.
    """
    process = host_process(process, steps)
    if isinstance(process, VPDiscrete):
        return discrete(process, steps)
    if finite:
        return uniform_log_snr(process, steps)
    if signal or not loses_signal(process):
        return karras(process, steps)
    times = polynomial(process, steps)
    times[-1] = process.t_clean
    return times
