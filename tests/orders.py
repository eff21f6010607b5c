"""Orders of convergence: how a solver nears the shared mixture's probability-flow ODE, in NumPy float64."""

import functools

import numpy as np
from common import PROCESSES
from executor import ode_end, run

from jaxdiff import grids

# Log-SNR from and to: next to no signal, and next to no noise. Every method converges with its own order inside of
# there.
RANGE = (-10.0, 7.0)


@functools.cache
def reference(low, high):
    """`x/alpha` at log-SNR `low`, and where the ODE takes it to at `high`: in these terms it is every process's."""
    ratios = np.exp(-np.array([low, high]) / 2)
    y = np.random.default_rng(0).normal(size=(32, 2)) * np.sqrt(1 + ratios[0] ** 2)
    return y, ode_end(y, *ratios)


def _uniform_log_snr(process, steps, span):
    return grids.uniform_log_snr(process, steps, log_snr_min=span[0], log_snr_max=span[1])


def errors(name, make, steps, span=RANGE, grid=_uniform_log_snr):
    """The root mean square error of a solver for each number of steps."""
    process = PROCESSES[name]
    start, end = reference(*span)
    result = []
    for n in steps:
        times = grid(process, n, span)
        got = run(make(process, times), start * process.alpha(times[0]))
        result.append(np.sqrt(np.mean((got - end * process.alpha(times[-1])) ** 2)))
    return np.array(result)


def order(errors):
    """The slope between the last two of errors at numbers of steps a factor of two apart."""
    return np.log2(errors[-2] / errors[-1])
