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
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from jaxdiff import trees
from jaxdiff.denoisers import Denoiser, check_denoiser
from jaxdiff.parametrizations import Estimate
from jaxdiff.processes import Process, time_of_log_snr
from jaxdiff.solvers.tableau import check_arguments

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


def _along(denoiser: Denoiser, times: Float[Any, " steps+1"], dtype: Any) -> tuple[Path, Any, Any]:
    """The path over a grid, and the grid's r and times (`[steps + 1]` each), the last of them kept from `sigma = 0`."""
    process, times = denoiser.process, jnp.asarray(times, dtype)
    start, inner = _end(process, times[0], dtype, CLEANEST), times[:-1]
    alpha, sigma = process.alpha(inner), process.sigma(inner)
    # On a grid as fine as this near its end, half of its last noise level.
    stop = _end(process, times[-1], dtype, jnp.minimum(CLEANEST, 0.5 * sigma[-1] / alpha[-1]))
    r = jnp.append(sigma / (alpha + sigma), stop.r).astype(dtype)
    return Path(denoiser, start, stop), r, jnp.append(inner, stop.time)


def _end(process: Process, t: Any, dtype: Any, cleanest: Any) -> End:
    t = jnp.asarray(t, dtype)
    clean = process.sigma(t) <= 0
    asked = jnp.where(clean, time_of_log_snr(process, -2 * jnp.log(jnp.asarray(cleanest, dtype))), t)
    alpha, sigma = process.alpha(asked), process.sigma(asked)
    kept = jnp.where(clean, process.alpha(t) / jnp.where(clean, alpha, 1.0), 1.0)
    values = (asked, sigma / (alpha + sigma), kept * (alpha + sigma))
    return End(*(value.astype(dtype) for value in values))


# ------------------------------------------------------------------------------------- integration


class Arrival(NamedTuple):
    """What `transport` brings to the other end.

    Attributes:
      x: leaves `[batch, *event]`, at the end that was gone to.
      beside: what was integrated along with it.
      path: the path that was taken.
      evaluations: how often the denoiser was asked.
    """

    x: PyTree
    beside: Any
    path: Path
    evaluations: Int[Array, ""]


def plain_rate(t: Any, state: tuple[PyTree, None], args: tuple[Denoiser, None]) -> tuple[PyTree, None]:
    """The ODE with nothing integrated beside it."""
    return velocity(args[0], state[0], t), None


def transport(
    denoiser: Denoiser,
    x: PyTree,
    *,
    to_noise: bool,
    times: Float[Any, " steps+1"] | None = None,
    end: Any = None,
    rtol: Any = 1e-5,
    atol: Any = 1e-5,
    max_steps: int = 4096,
    rate: Rate = plain_rate,
    beside: Any = None,
    extra: Any = None,
) -> Arrival:
    """Moves x along the ODE from one end to the other.

    With `times`, by the classical Runge-Kutta method of order 4 in r: four evaluations a step. Without, by steps that
    keep to a tolerance (`jaxdiff.adaptive_steps`).

    Args:
      x: leaves `[batch, *event]`, at the end that is left.
      to_noise: from data to noise, or from noise to data.
      times: a grid, decreasing, as solvers take it, whatever the direction; traced or not.
      end: without `times`, where the data is; `t_min` by default.
      rtol, atol, max_steps: without `times`, see `adaptive_steps.solve`.
      rate: `(t, (z, beside), (denoiser, extra)) -> d(z, beside)/dr`; a module's function, so as to compile once.
      beside, extra: what `rate` takes.

    Raises:
      TypeError, ValueError: arguments that are not what they should be, by name.
    """
    x = _check(denoiser, x, times, end)
    dtype = trees.wide(*jax.tree.leaves(x))
    process = denoiser.process
    if times is None:
        start, stop = process.t_max, process.t_min if end is None else jnp.clip(end, process.t_min, process.t_max)
        path = Path(denoiser, _end(process, start, dtype, CLEANEST), _end(process, stop, dtype, CLEANEST))
    else:
        path, grid, asked = _along(denoiser, times, dtype)
    here, there = (path.data, path.noise) if to_noise else (path.noise, path.data)
    state = (trees.lincomb((1 / here.scale,), (x,)), beside)
    if times is None:
        from jaxdiff import adaptive_steps  # diffrax takes as long to import as JAX

        state, evaluations = adaptive_steps.solve(rate, state, here.r, there.r, path, extra, rtol, atol, max_steps)
    else:
        order = slice(None, None, -1 if to_noise else 1)
        state, evaluations = _runge_kutta(rate, state, grid[order], asked[order], path, extra)
    return Arrival(trees.lincomb((there.scale,), (state[0],)), state[1], path, evaluations)


def _check(denoiser: Denoiser, x: PyTree, times: Any, end: Any) -> PyTree:
    """x in float32 or wider, once the arguments are known to be good."""
    check_denoiser(denoiser)
    trees.batch_size(x)
    for leaf in jax.tree.leaves(x):
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            raise TypeError(f"x has a leaf of type {jnp.result_type(leaf)}; allowed are floating-point arrays")
    process, known = denoiser.process, not _traced((denoiser.process, times, end))
    if times is not None and known:
        check_arguments(process, times)
    elif times is not None:
        if np.ndim(times) != 1 or len(times) < 2:
            raise ValueError(f"times has shape {np.shape(times)}; allowed is [steps + 1] with at least 1 step")
        if not _traced(times) and not np.all(np.diff(times) < 0):
            raise ValueError(f"times = {times} do not decrease; time runs from noise to data, whatever the direction")
    if end is not None and known and not (np.ndim(end) == 0 and process.t_min <= end < process.t_max):
        raise ValueError(f"end = {end}; allowed are times from t_min = {process.t_min} to below {process.t_max}")
    dtype = trees.wide(*jax.tree.leaves(x))
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), x)


def _traced(tree: Any) -> bool:
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(tree))


def _runge_kutta(
    rate: Rate, state: Any, r: Float[Array, " steps+1"], times: Float[Array, " steps+1"], path: Path, extra: Any
) -> tuple[Any, Int[Array, ""]]:
    """The classical method: `k_j = rate(state + a_j h k_{j-1})`, `state' = state + h sum_j b_j k_j`."""
    dtype = r.dtype
    half = time_at(path, (r[:-1] + r[1:]) / 2)
    asked = jnp.stack([times[:-1], half, half, times[1:]], axis=1)
    reach, share = jnp.asarray([0, 1 / 2, 1 / 2, 1], dtype), jnp.asarray([1 / 6, 1 / 3, 1 / 3, 1 / 6], dtype)

    def step(state: Any, row: Any) -> tuple[Any, None]:
        length, stage_times = row

        def stage(carry: tuple[Any, Any], column: Any) -> tuple[Any, None]:
            total, last = carry
            t, a, b = column
            k = rate(t, jax.tree.map(lambda y, k: y + a * length * k, state, last), (path.denoiser, extra))
            return (jax.tree.map(lambda y, k: y + b * length * k, total, k), k), None

        still = jax.tree.map(jnp.zeros_like, state)
        return jax.lax.scan(stage, (state, still), (stage_times, reach, share))[0][0], None

    state, _ = jax.lax.scan(step, state, (r[1:] - r[:-1], asked))
    return state, jnp.asarray(asked.size, jnp.int32)
