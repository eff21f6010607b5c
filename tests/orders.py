"""Orders of convergence on the probability-flow ODE of the shared mixture, in NumPy float64."""

import functools

import numpy as np
from common import PROCESSES
from executor import ode_end, run_together

from jaxdiff import grids

# The ends of the grid in log-SNR, with almost no signal and almost no noise. Every method converges with its own order
# between them.
RANGE = (-10.0, 7.0)


@functools.cache
def reference(low, high):
    """`x/alpha` at log-SNR `low`, and the end of the ODE at `high`. Both are the same for every process."""
    ratios = np.exp(-np.array([low, high]) / 2)
    y = np.random.default_rng(0).normal(size=(32, 2)) * np.sqrt(1 + ratios[0] ** 2)
    return y, ode_end(y, *ratios)


def _uniform_log_snr(process, steps, span):
    return grids.uniform_log_snr(process, steps, log_snr_min=span[0], log_snr_max=span[1])


def errors(name, solvers, steps, span=RANGE, grid=_uniform_log_snr):
    """The root mean square errors of solvers, `{solver: [an error for each number of steps]}`."""
    process = PROCESSES[name]
    start, end = reference(*span)
    result = {solver: [] for solver in solvers}
    for n in steps:
        times = grid(process, n, span)
        together = {}  # those that evaluate the denoiser at the same times
        for solver, make in solvers.items():
            tableau = make(process, times)
            together.setdefault(tableau.times.tobytes(), {})[solver] = tableau
        for made in together.values():
            samples = run_together(list(made.values()), start * process.alpha(times[0]))
            for solver, got in zip(made, samples, strict=True):
                result[solver].append(np.sqrt(np.mean((got - end * process.alpha(times[-1])) ** 2)))
    return result


def order(errors):
    """The order between two errors, at numbers of steps a factor of two apart."""
    return np.log2(errors[0] / errors[1])
