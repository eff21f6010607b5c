"""Data and noise moved along the probability-flow ODE from one end to the other."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PyTree

from jaxdiff import trees
from jaxdiff.denoisers import Denoiser, check_denoiser
from jaxdiff.probability_flow import fixed_steps
from jaxdiff.probability_flow.variables import CLEANEST, Path, Rate, along, end_at, velocity
from jaxdiff.processes import Times
from jaxdiff.solvers.tableau import check_arguments


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
    times: Times | None = None,
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
    keep to a tolerance (`probability_flow.adaptive_steps`).

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
        path = Path(denoiser, end_at(process, start, dtype, CLEANEST), end_at(process, stop, dtype, CLEANEST))
    else:
        path, grid, asked = along(denoiser, times, dtype)
    here, there = (path.data, path.noise) if to_noise else (path.noise, path.data)
    state = (trees.lincomb((1 / here.scale,), (x,)), beside)
    if times is None:
        from jaxdiff.probability_flow import adaptive_steps

        state, evaluations = adaptive_steps.solve(rate, state, here.r, there.r, path, extra, rtol, atol, max_steps)
    else:
        order = slice(None, None, -1 if to_noise else 1)
        state, evaluations = fixed_steps.solve(rate, state, grid[order], asked[order], path, extra)
    return Arrival(trees.lincomb((there.scale,), (state[0],)), state[1], path, evaluations)


def _check(denoiser: Denoiser, x: PyTree, times: Times, end: Any) -> PyTree:
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
