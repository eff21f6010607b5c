"""Shared by several test files: all processes, and a Gaussian mixture."""

import numpy as np
from scipy import stats

import jaxdiff as jd

WEIGHTS = np.array([0.5, 0.3, 0.2])
MEANS = np.array([[1.0, 0.5], [-1.0, 0.3], [0.2, -1.2]])
STDS = np.array([0.4, 0.5, 0.6])

PROCESSES = {
    "vp_linear": jd.processes.vp_linear(),
    "sub_vp": jd.processes.sub_vp(),
    "vp_cosine": jd.processes.vp_cosine(),
    "vp_cosine_shifted": jd.processes.vp_cosine(shift=4.0),
    "vp_nichol": jd.processes.vp_nichol(),
    "vp_discrete": jd.processes.vp_discrete(),
    "vp_discrete_cosine": jd.processes.vp_discrete("cosine"),
    "ve": jd.processes.ve(),
    "edm": jd.processes.edm(),
    "flow": jd.processes.flow(),
    "trigonometric": jd.processes.trigonometric(sigma_data=0.5),
}
NO_SIGNAL_AT_END = ("vp_cosine", "vp_cosine_shifted", "vp_nichol", "flow", "trigonometric")


def inner_times(process, n=9, margin=0.02):
    """`n` times strictly between the ends of a process, in float64."""
    span = process.t_max - process.t_min
    return np.linspace(process.t_min + margin * span, process.t_max - margin * span, n)


def least_probable_projection(samples):
    """The smallest p-value of Kolmogorov-Smirnov tests of samples of the mixture, projected onto three directions."""
    values = []
    for angle in (0.0, 1.0, 2.2):
        direction = np.array([np.cos(angle), np.sin(angle)])

        def cdf(z, direction=direction):
            return sum(w * stats.norm.cdf(z, m @ direction, s) for w, m, s in zip(WEIGHTS, MEANS, STDS, strict=True))

        values.append(stats.kstest(np.asarray(samples) @ direction, cdf).pvalue)
    return min(values)


def mixture(process):
    """The exact denoiser of the mixture."""
    return jd.denoisers.gaussian_mixture(process, WEIGHTS, MEANS, STDS)
