"""A mixture of Gaussians in the plane, with its exact denoiser and the exact solution of its ODE.

The mixture has five components and an overall standard deviation of 0.46 in each coordinate. A published table gives
errors of public samplers on such a mixture (`PUBLISHED` in `solver_accuracy`), but not its weights, centres and widths.
The numbers below were drawn at random and improved by random search, until DDIM, Euler, Heun and DPM-Solver++ 2M on the
grids of the table matched its 44 errors as closely as possible. Then they were rounded. No other sampler took part. On
other noise the 44 errors are reproduced to 15 to 20 per cent (root mean square of the logarithm).
"""

import functools

import numpy as np
from scipy import integrate

from jaxdiff import denoisers
from jaxdiff.denoisers import Denoiser
from jaxdiff.processes import Process

WEIGHTS = np.array([0.14, 0.30, 0.23, 0.17, 0.16])
MEANS = np.array([[0.64, 0.74], [0.48, 0.44], [0.29, 0.63], [-0.42, 0.27], [-0.78, -0.49]])
STDS = np.array([0.02, 0.08, 0.11, 0.06, 0.10])


def denoiser(process: Process) -> Denoiser:
    """The exact denoiser of the mixture."""
    return denoisers.gaussian_mixture(process, WEIGHTS, MEANS, STDS)


def estimate(x: np.ndarray, alpha: float, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """`E[x0 | x_t = x]` and `E[eps | x_t = x]` for `x` `[n, 2]`, in float64 NumPy."""
    variance = alpha**2 * STDS**2 + sigma**2
    centred = x[:, None] - alpha * MEANS
    log_posterior = np.log(WEIGHTS / variance) - np.sum(centred**2, axis=-1) / (2 * variance)
    posterior = np.exp(log_posterior - log_posterior.max(axis=1, keepdims=True))
    posterior = (posterior / posterior.sum(axis=1, keepdims=True))[..., None]
    x0 = np.sum(posterior * (MEANS + (alpha * STDS**2 / variance)[:, None] * centred), axis=1)
    return x0, np.sum(posterior * (sigma / variance)[:, None] * centred, axis=1)


def solution(x: np.ndarray, alpha: float, sigma: float) -> np.ndarray:
    """The end, without noise, of the probability-flow ODE from `x` `[n, 2]` at a time with these alpha and sigma.

    Every process is `(1 - r) x0 + r eps` up to its scale, and there the ODE is `dz/dr = eps - x0`. SciPy's DOP853
    solves it with a relative tolerance of 1e-10.
    """

    def rate(r: float, z: np.ndarray) -> np.ndarray:
        x0, eps = estimate(z.reshape(-1, 2), 1 - r, r)
        return np.asarray((eps - x0).ravel())

    scale = alpha + sigma
    start = np.asarray(x, np.float64).ravel() / scale
    solved = integrate.solve_ivp(rate, (sigma / scale, 0.0), start, method="DOP853", rtol=1e-10, atol=1e-10)
    return np.asarray(solved.y[:, -1].reshape(-1, 2))


def data(seed: int, count: int) -> np.ndarray:
    """Draws from the mixture, `[count, 2]`."""
    rng = np.random.default_rng(seed)
    which = rng.choice(len(WEIGHTS), count, p=WEIGHTS / WEIGHTS.sum())
    return MEANS[which] + STDS[which, None] * rng.normal(size=(count, 2))


def distance(x: np.ndarray, end: np.ndarray) -> float:
    """The root mean squared distance between points of the same index, both `[n, 2]`."""
    return float(np.sqrt(np.mean(np.sum((np.asarray(x, np.float64) - end) ** 2, axis=-1))))


@functools.cache
def _directions(count: int) -> np.ndarray:
    angles = np.pi * (np.arange(count) + 0.5) / count
    return np.stack([np.cos(angles), np.sin(angles)])


def sliced_wasserstein(x: np.ndarray, y: np.ndarray, directions: int = 64) -> float:
    """The Wasserstein-1 distance between two sets of the same size, averaged over evenly spread directions."""
    a, b = (np.sort(np.asarray(points, np.float64) @ _directions(directions), axis=0) for points in (x, y))
    return float(np.mean(np.abs(a - b)))
