"""Tableaux run in plain NumPy with given noise: a second implementation of the definition of a tableau.

Also shared by the parity tests: the stored references, and the probability-flow ODE solved by SciPy.
"""

import dataclasses
import pathlib

import numpy as np
from common import MEANS, STDS, WEIGHTS
from scipy import integrate


def estimate(process, x, t):
    """`E[x0 | x_t]` and `E[eps | x_t]` of the shared mixture, for x `[n, 2]`."""
    alpha, sigma = process.alpha(t), process.sigma(t)
    v = alpha**2 * STDS**2 + sigma**2
    centred = x[:, None] - alpha * MEANS
    log_r = np.log(WEIGHTS) - np.log(v) - np.sum(centred**2, -1) / (2 * v)
    r = np.exp(log_r - log_r.max(1, keepdims=True))
    r /= r.sum(1, keepdims=True)
    x0 = np.einsum("nk,nkd->nd", r, MEANS + (alpha * STDS**2 / v)[:, None] * centred)
    return x0, (x - alpha * x0) / sigma


def run(tableau, x, draws=(), denoiser=estimate):
    """The sample of a tableau from x. Each row that adds noise takes the next of `draws`."""
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


def run_together(tableaux, x, denoiser=estimate):
    """The samples of deterministic tableaux with the same times, `[tableaux, n, 2]`: one denoiser call for all."""
    points, history = max(t.points for t in tableaux), max(t.history_length for t in tableaux)
    state = np.stack([padded(t, points, history).state for t in tableaux])
    parts = np.broadcast_to(x, (len(tableaux), points + history, *x.shape))
    for i in range(len(tableaux[0]) + 1):
        moved = np.einsum("srk,sknd->srnd", state[:, i], parts)
        if i == len(tableaux[0]):
            return moved[:, -1]
        assert len({t.times[i] for t in tableaux}) == 1
        x0, eps = denoiser(tableaux[0].process, moved[:, -1].reshape(-1, 2), tableaux[0].times[i])
        p, q = np.stack([t.history_target[i] for t in tableaux], axis=1)[..., None, None]
        newest = p * x0.reshape(p.shape[0], *x.shape) + q * eps.reshape(p.shape[0], *x.shape)
        parts = np.concatenate([moved, newest[:, None], parts[:, points:-1]], axis=1)


def padded(tableau, points, history):
    """The same tableau with unused points in front of its own, and an unused end of the history."""
    ahead, after = points - tableau.points, history - tableau.history_length
    state = np.pad(tableau.state, ((0, 0), (ahead, 0), (ahead, after)))
    return dataclasses.replace(tableau, state=state, noise=np.pad(tableau.noise, ((0, 0), (ahead, 0), (0, 0))))


def references(name):
    """A file of tests/references as `{case: {array: value}}`."""
    cases = {}
    with np.load(pathlib.Path(__file__).parent / "references" / f"{name}.npz") as stored:
        for entry in stored.files:
            case, array = entry.rsplit("/", 1)
            cases.setdefault(case, {})[array] = stored[entry]
    return cases


def ode_end(y, high, low):
    """The end of the probability-flow ODE from `y = x/alpha` at the ratio sigma/alpha = `high`, at the ratio `low`.

    SciPy's DOP853 solves it. For `low = 0` it stops at 1e-6 and takes the posterior mean there, which differs by less
    than 1e-6.
    """
    process = Ratio()

    def rate(log_ratio, flat):
        ratio = np.exp(log_ratio)
        return (ratio * estimate(process, flat.reshape(y.shape), ratio)[1]).ravel()

    span = np.log([high, low or 1e-6])
    end = integrate.solve_ivp(rate, span, y.ravel(), method="DOP853", rtol=1e-11, atol=1e-12).y[:, -1].reshape(y.shape)
    return end if low else estimate(process, end, 1e-6)[0]


class Ratio:
    """The process `x = x0 + ratio eps`, whose time is the ratio."""

    def alpha(self, t):
        return 1.0

    def sigma(self, t):
        return t
