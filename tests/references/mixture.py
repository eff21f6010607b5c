"""The mixture of tests/common.py with its exact denoiser, and the storage of arrays, for the scripts of this folder.

This file needs NumPy only, so that the scripts run where JAX is not installed.
"""

import pathlib
from typing import Any

import numpy as np

FOLDER = pathlib.Path(__file__).parent
WEIGHTS = np.array([0.5, 0.3, 0.2])
MEANS = np.array([[1.0, 0.5], [-1.0, 0.3], [0.2, -1.2]])
STDS = np.array([0.4, 0.5, 0.6])


def start(count: int = 8) -> np.ndarray:
    """Standard normal noise to start from, `[count, 2]`."""
    return np.random.default_rng(0).normal(size=(count, 2))


def draws(count: int = 40) -> np.ndarray:
    """The noise of the steps, in the order of its use, `[count, 8, 2]`."""
    return np.random.default_rng(1).normal(size=(count, 8, 2))


def posterior_mean(x: np.ndarray, alpha: float, sigma: float) -> np.ndarray:
    """`E[x0 | alpha x0 + sigma eps = x]` of the mixture, `[n, 2]`."""
    v = alpha**2 * STDS**2 + sigma**2
    centred = x[:, None] - alpha * MEANS
    log_r = np.log(WEIGHTS) - np.log(v) - np.sum(centred**2, -1) / (2 * v)
    r = np.exp(log_r - log_r.max(1, keepdims=True))
    r /= r.sum(1, keepdims=True)
    return np.einsum("nk,nkd->nd", r, MEANS + (alpha * STDS**2 / v)[:, None] * centred)


def save(name: str, cases: dict[str, dict[str, Any]]) -> None:
    """Writes `name.npz` beside this file, with the entries `case/array`."""
    flat = {f"{case}/{key}": np.asarray(value) for case, arrays in cases.items() for key, value in arrays.items()}
    np.savez_compressed(FOLDER / f"{name}.npz", **flat)
    print(f"{name}.npz: {len(cases)} cases, {(FOLDER / f'{name}.npz').stat().st_size / 1e3:.0f} kB")
