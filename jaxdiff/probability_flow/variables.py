"""The probability-flow ODE, in the variables in which it is smooth from end to end.

Between pure data and pure noise, a sample of the model moves along `dx/dt = f x + g^2/(2 sigma) eps` (Song et al. 2021,
arXiv 2011.13456, equation 13). This form is singular where `alpha = 0`, because f is infinite there, and where
`sigma = 0`. The following form has no singularity:

    z = x / (alpha + sigma) = (1 - r) x0 + r eps
    r = sigma / (alpha + sigma)
    dz/dr = eps - x0

It holds because `alpha d(x0) + sigma d(eps) = 0` along the ODE, so that only the weights `1 - r` and `r` move z. For
every process, r runs from 0 (data) to 1 (noise), and z stays of the size of the data. A denoiser that depends on the
noise level alone has one and the same ODE for all processes. The process decides only where the ODE begins and ends,
and which time belongs to an r.

If no noise is left at the end of the data (`sigma = 0`), the noise in the data is 0/0 there. The ODE then stops at
`sigma/alpha = 1e-3`, and `x/alpha` is kept over the rest of the way, in both directions. Since
`eps = -sigma grad log p` goes to 0 with sigma, the error is of order 1e-6 relative to the square of the smallest scale
of the data.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from jaxdiff import trees
from jaxdiff.denoisers import Denoiser
from jaxdiff.parametrizations import Estimate
from jaxdiff.processes import Process, Times, time_of_log_snr

CLEANEST = 1e-3  # the sigma/alpha at which the ODE stops if it leads to no noise at all

# `(t, state, args) -> d state / dr`.
Rate = Callable[[Any, PyTree, Any], PyTree]


class Endpoint(NamedTuple):
    """One end of the ODE.

    Attributes:
      time: the time of the denoiser's first or last evaluation. It is above the end of the process if no noise is left
        at that end.
      r: `sigma/(alpha + sigma)` at this time.
      scale: the factor in `x = scale z`.
    """

    time: Float[Array, ""]
    r: Float[Array, ""]
    scale: Float[Array, ""]


class Path(NamedTuple):
    """The ODE of a denoiser between two ends: the pytree that the integrators work on."""

    denoiser: Denoiser
    noise: Endpoint
    data: Endpoint


def velocity(denoiser: Denoiser, z: PyTree, t: Any) -> PyTree:
    """Returns `dz/dr = eps - x0` at `z = x_t / (alpha + sigma)`, with the shapes and types of z: `[batch, *event]`."""
    t = jnp.asarray(t)
    x = trees.lincomb((denoiser.process.alpha(t) + denoiser.process.sigma(t),), (z,))
    estimate = denoiser(x, t)
    trees.check_alike("the denoiser's estimate", estimate, Estimate(z, z))
    return trees.cast_like(trees.lincomb((-1.0, 1.0), estimate), z)


def time_at(path: Path, r: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Returns the time at which `sigma/(alpha + sigma)` is r, between the ends of a path."""
    margin = 8 * jnp.finfo(r.dtype).eps  # closer to pure noise than this, 1 - r has no digits left
    inner = jnp.clip(r, path.data.r, jnp.minimum(path.noise.r, 1 - margin))
    t = time_of_log_snr(path.denoiser.process, 2 * (jnp.log1p(-inner) - jnp.log(inner))).astype(r.dtype)
    return jnp.where(r >= path.noise.r, path.noise.time, jnp.where(r <= path.data.r, path.data.time, t))


def path_between(denoiser: Denoiser, first: Any, last: Any, dtype: Any) -> Path:
    """Returns the path from the time `first`, near the noise, to the time `last`, near the data."""
    return Path(denoiser, *(_endpoint(denoiser.process, t, dtype, CLEANEST) for t in (first, last)))


def path_over(denoiser: Denoiser, times: Times, dtype: Any) -> tuple[Path, Any, Any]:
    """Returns the path over a grid, and the r and the time of each grid point, `[steps + 1]` each.

    If the grid ends without noise, its last point is moved to a little noise.
    """
    process, times = denoiser.process, jnp.asarray(times, dtype)
    inner = times[:-1]
    alpha, sigma = process.alpha(inner), process.sigma(inner)
    # A grid may be finer than `CLEANEST` near its end. Then it stops at half of its last noise level.
    cleanest = jnp.minimum(CLEANEST, 0.5 * sigma[-1] / alpha[-1])
    noise, data = _endpoint(process, times[0], dtype, CLEANEST), _endpoint(process, times[-1], dtype, cleanest)
    r = jnp.append(sigma / (alpha + sigma), data.r).astype(dtype)
    return Path(denoiser, noise, data), r, jnp.append(inner, data.time)


def _endpoint(process: Process, t: Any, dtype: Any, cleanest: Any) -> Endpoint:
    """Returns the end at time t; or at `sigma/alpha = cleanest`, if no noise is left at t."""
    t = jnp.asarray(t, dtype)
    clean = process.sigma(t) <= 0
    time = jnp.where(clean, time_of_log_snr(process, -2 * jnp.log(jnp.asarray(cleanest, dtype))), t)
    alpha, sigma = process.alpha(time), process.sigma(time)
    # From there to the clean end x/alpha is kept.
    growth = jnp.where(clean, process.alpha(t) / jnp.where(clean, alpha, 1.0), 1.0)
    values = (time, sigma / (alpha + sigma), growth * (alpha + sigma))
    return Endpoint(*(value.astype(dtype) for value in values))
