"""The probability-flow ODE, in the variables in which it is smooth from end to end.

Between pure data and pure noise a sample of the model moves along `dx/dt = f x + g^2/(2 sigma) eps`, which is singular
where `alpha = 0` (f is infinite) and where `sigma = 0`. Song et al. 2021 (arXiv 2011.13456), equation 13. With

    z = x / (alpha + sigma) = (1 - r) x0 + r eps        r = sigma / (alpha + sigma)        dz/dr = eps - x0

it is not: along the ODE `alpha d(x0) + sigma d(eps) = 0`, so that only the weights `1 - r` and `r` move z. Here r runs
from 0 (data) to 1 (noise) whatever the process, z stays of the size of the data, and to a denoiser that depends on
nothing but the noise level all processes are one and the same ODE. What is left of the process is where it begins and
ends, and the time that is asked for r.

Where no noise at all is left at the end of the data (`sigma = 0`), the noise in the data is 0/0. The ODE stops there at
`sigma/alpha = 1e-3`, and `x / alpha` is taken as it is, in both directions: `eps = -sigma grad log p` goes to 0 with
sigma, so the error is of order 1e-6 relative to the square of the data's smallest scale.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from jaxdiff import trees
from jaxdiff.denoisers import Denoiser
from jaxdiff.parametrizations import Estimate
from jaxdiff.processes import Process, Times, time_of_log_snr

CLEANEST = 1e-3  # sigma/alpha at which the ODE stops when it leads to no noise at all

# `(t, state, args) -> d state / dr`.
Rate = Callable[[Any, PyTree, Any], PyTree]


class End(NamedTuple):
    """One end of the ODE.

    Attributes:
      time: where the denoiser is asked; above the process's own end if that has no noise.
      r: `sigma/(alpha + sigma)` there.
      scale: `x = scale z`.
    """

    time: Float[Array, ""]
    r: Float[Array, ""]
    scale: Float[Array, ""]


class Path(NamedTuple):
    """The ODE of a denoiser between two ends: the pytree that its integrators work on."""

    denoiser: Denoiser
    noise: End
    data: End


def velocity(denoiser: Denoiser, z: PyTree, t: Any) -> PyTree:
    """`dz/dr = eps - x0` at `z = x_t / (alpha + sigma)`, leaves `[batch, *event]` and of the types of `z`."""
    t = jnp.asarray(t)
    x = trees.lincomb((denoiser.process.alpha(t) + denoiser.process.sigma(t),), (z,))
    estimate = denoiser(x, t)
    for name, side in zip(Estimate._fields, estimate, strict=True):
        trees.check_alike(f"the denoiser's {name}", side, z)
    moved = trees.lincomb((-1.0, 1.0), estimate)
    return jax.tree.map(lambda new, old: new.astype(old.dtype), moved, z)


def time_at(path: Path, r: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The time at which `sigma/(alpha + sigma)` is r, between the ends of a path."""
    margin = 8 * jnp.finfo(r.dtype).eps  # closer to pure noise than this, 1 - r has no digits left
    inner = jnp.clip(r, path.data.r, jnp.minimum(path.noise.r, 1 - margin))
    t = time_of_log_snr(path.denoiser.process, 2 * (jnp.log1p(-inner) - jnp.log(inner))).astype(r.dtype)
    return jnp.where(r >= path.noise.r, path.noise.time, jnp.where(r <= path.data.r, path.data.time, t))


def along(denoiser: Denoiser, times: Times, dtype: Any) -> tuple[Path, Any, Any]:
    """The path over a grid, and the grid's r and times (`[steps + 1]` each), the last of them kept from `sigma = 0`."""
    process, times = denoiser.process, jnp.asarray(times, dtype)
    start, inner = end_at(process, times[0], dtype, CLEANEST), times[:-1]
    alpha, sigma = process.alpha(inner), process.sigma(inner)
    # On a grid as fine as this near its end, half of its last noise level.
    stop = end_at(process, times[-1], dtype, jnp.minimum(CLEANEST, 0.5 * sigma[-1] / alpha[-1]))
    r = jnp.append(sigma / (alpha + sigma), stop.r).astype(dtype)
    return Path(denoiser, start, stop), r, jnp.append(inner, stop.time)


def end_at(process: Process, t: Any, dtype: Any, cleanest: Any) -> End:
    t = jnp.asarray(t, dtype)
    clean = process.sigma(t) <= 0
    asked = jnp.where(clean, time_of_log_snr(process, -2 * jnp.log(jnp.asarray(cleanest, dtype))), t)
    alpha, sigma = process.alpha(asked), process.sigma(asked)
    kept = jnp.where(clean, process.alpha(t) / jnp.where(clean, alpha, 1.0), 1.0)
    values = (asked, sigma / (alpha + sigma), kept * (alpha + sigma))
    return End(*(value.astype(dtype) for value in values))
