"""Denoisers of the tests of guidance: a function of x whose estimates JAX and NumPy know, and Gaussians in one dimension."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxdiff as jd
from jaxdiff import trees
from jaxdiff.parametrizations import Estimate
from jaxdiff.processes import Process


@trees.register
@dataclasses.dataclass(frozen=True)
class Known:
    """The denoiser `x0 = data + s + sin(x)/4`: no law has it, so that nothing cancels."""

    process: Process
    data: Any

    def __call__(self, x, t, s=None):
        t = jnp.asarray(t)
        later = 0.0 if s is None else s
        x0 = jax.tree.map(lambda d, v: d + later + jnp.sin(v) / 4, self.data, x)
        sigma = self.process.sigma(t)
        return Estimate(x0, trees.lincomb((1 / sigma, -self.process.alpha(t) / sigma), (x, x0)))


def estimates(process, data, x, t):
    """The estimate of `Known` in NumPy, for arrays."""
    x0 = data + np.sin(x) / 4
    return x0, (x - process.alpha(t) * x0) / process.sigma(t)


def dot(a, b):
    """The inner product of each example."""
    return (a * b).reshape(len(a), -1).sum(axis=1)


def rows(values, like):
    """One number per example, which multiplies arrays."""
    return np.reshape(values, (-1,) + (1,) * (like.ndim - 1))


def drawn(shape, seed=0):
    """Numbers in float64."""
    return np.random.default_rng(seed).normal(size=shape)


def times_of(process, steps):
    """A grid in the interior of a process."""
    return jd.grids.uniform_time(process, steps + 2)[1:-1]
