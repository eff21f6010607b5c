"""A tableau run in plain NumPy float64, with noise that is given: an independent reading of what a tableau means.

Also what the tests of parity share: the stored references, and the probability-flow ODE solved by scipy.
"""

import pathlib

import numpy as np
from common import MEANS, STDS, WEIGHTS
from scipy import integrate


def estimate(process, x, t):
    """E[x0 | x_t] and E[eps | x_t] of the shared mixture, x is `[n, 2]`."""
    alpha, sigma = process.alpha(t), process.sigma(t)
    v = alpha**2 * STDS**2 + sigma**2
    centred = x[:, None] - alpha * MEANS
    log_r = np.log(WEIGHTS) - np.log(v) - np.sum(centred**2, -1) / (2 * v)
    r = np.exp(log_r - log_r.max(1, keepdims=True))
    r /= r.sum(1, keepdims=True)
    x0 = np.einsum("nk,nkd->nd", r, MEANS + (alpha * STDS**2 / v)[:, None] * centred)
    return x0, (x - alpha * x0) / sigma


def run(tableau, x, draws=(), denoiser=estimate):
    """The sample of a tableau from x, each row that adds noise taking the next of `draws`."""
    draws = iter(draws)
    points, history = [x] * tableau.points, [x] * tableau.history_length
    for i in range(len(tableau) + 1):
        parts = np.stack(points + history)
        points = list(np.einsum("rk,k...->r...", tableau.state[i], parts))
        if np.any(tableau.noise[i]):
            z = next(draws)
            points = [point + scale * z for point, scale in zip(points, tableau.noise[i, :, 0], strict=True)]
        if i < len(tableau):
            x0, eps = denoiser(tableau.process, points[-1], tableau.times[i])
            p, q = tableau.history_target[i]
            history = [p * x0 + q * eps, *history[:-1]]
    assert next(draws, None) is None, "the tableau draws less noise than the reference"
    return points[-1]


def references(name):
    """A file of tests/references as `{case: {array: value}}`."""
    cases = {}
    with np.load(pathlib.Path(__file__).parent / "references" / f"{name}.npz") as stored:
        for entry in stored.files:
            case, array = entry.rsplit("/", 1)
            cases.setdefault(case, {})[array] = stored[entry]
    return cases


def ode_end(y, high, low):
    """Where the probability-flow ODE takes `y = x/alpha` from the ratio sigma/alpha = `high` to `low`, by scipy's DOP853.

    To 0 it is taken to 1e-6 and then to the posterior mean, which is as near as makes no difference.
    """
    process = Ratio()

    def rate(log_ratio, flat):
        ratio = np.exp(log_ratio)
        return (ratio * estimate(process, flat.reshape(y.shape), ratio)[1]).ravel()

    span = np.log([high, low or 1e-6])
    end = integrate.solve_ivp(rate, span, y.ravel(), method="DOP853", rtol=1e-11, atol=1e-12).y[:, -1].reshape(y.shape)
    return end if low else estimate(process, end, 1e-6)[0]


class Ratio:
    """`x0 + ratio eps`."""

    def alpha(self, t):
        return 1.0

    def sigma(self, t):
        return t
