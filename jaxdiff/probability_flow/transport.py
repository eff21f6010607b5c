"""Moving data and noise along the probability-flow ODE, from one end to the other."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PyTree

from jaxdiff import checks, trees
from jaxdiff.denoisers import Denoiser, check_denoiser
from jaxdiff.jitted import jitted
from jaxdiff.probability_flow import adaptive_steps, fixed_steps
from jaxdiff.probability_flow.variables import Endpoint, Rate, path_between, path_over, velocity
from jaxdiff.processes import Times
from jaxdiff.solvers.tableau import check_times


class Arrival(NamedTuple):
    """The result of `transport`.

    Attributes:
      x: the data or noise at the end of the path: leaves `[batch, *event]`.
      integral: the quantity that `rate` integrated along the path.
      noise, data: the ends of the path.
      evaluations: the number of evaluations of the denoiser.
    """

    x: PyTree
    integral: Any
    noise: Endpoint
    data: Endpoint
    evaluations: Int[Array, ""]


def plain_rate(t: Any, state: tuple[PyTree, None], args: tuple[Denoiser, None]) -> tuple[PyTree, None]:
    """The rate of the ODE alone, with no integral along the path."""
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
    integral: Any = None,
    extra: Any = None,
) -> Arrival:
    """Moves x along the ODE from one end to the other.

    With `times`, the ODE is integrated by `fixed_steps.solve`, with four evaluations per step of the grid. Without
    `times`, it is integrated by `adaptive_steps.solve`.

    Args:
      x: data or noise at the start of the path: leaves `[batch, *event]`.
      to_noise: whether to go from data to noise, or from noise to data.
      times: a decreasing grid, as for solvers, in both directions. It may be traced.
      end: without `times`, the time at which the data are; by default `t_min`.
      rtol, atol, max_steps: without `times`, see `adaptive_steps.solve`.
      rate: `(t, (z, integral), (denoiser, extra)) -> d(z, integral)/dr`. It should be a function of a module, so that
        it compiles once.
      integral, extra: the initial value of the integral, and further arguments of `rate`.

    Raises:
      TypeError, ValueError: an argument of the wrong type or value.
    """
    x = _check(denoiser, x, times, end)
    if times is None:
        adaptive_steps.check_options(rtol, atol, max_steps)
    return _transport(
        denoiser, x, times, end, (rtol, atol), (integral, extra), to_noise=to_noise, rate=rate, max_steps=int(max_steps)
    )


@jitted
def _transport(
    denoiser: Denoiser,
    x: PyTree,
    times: Any,
    end: Any,
    tolerances: tuple[Any, Any],
    others: tuple[Any, Any],
    *,
    to_noise: bool,
    rate: Rate,
    max_steps: int,
) -> Arrival:
    integral, extra = others
    dtype = trees.wide(*jax.tree.leaves(x))
    process = denoiser.process
    if times is None:
        last = process.t_min if end is None else jnp.clip(end, process.t_min, process.t_max)
        path = path_between(denoiser, process.t_max, last, dtype)
    else:
        path, grid, grid_times = path_over(denoiser, times, dtype)
    here, there = (path.data, path.noise) if to_noise else (path.noise, path.data)
    state = (trees.lincomb((1 / here.scale,), (x,)), integral)
    if times is None:
        state, evaluations = adaptive_steps.solve(
            rate, state, path, extra, *tolerances, to_noise=to_noise, max_steps=max_steps
        )
    else:
        order = slice(None, None, -1 if to_noise else 1)
        state, evaluations = fixed_steps.solve(rate, state, grid[order], grid_times[order], path, extra)
    x = trees.lincomb((there.scale,), (state[0],))
    return Arrival(x, state[1], path.noise, path.data, evaluations)


def _check(denoiser: Denoiser, x: PyTree, times: Times | None, end: Any) -> PyTree:
    """Checks the arguments of `transport`, and returns x in float32 or wider."""
    check_denoiser(denoiser)
    trees.batch_size(x)
    trees.check_floating("x", x)
    process, known = denoiser.process, not trees.traced((denoiser.process, times, end))
    if times is not None and known:
        check_times(process, times)
    elif times is not None:
        # `check_times` refuses a traced process, which is welcome here.
        grid = np.ndim(times) == 1 and len(times) >= 2
        checks.require(grid, "times.shape", np.shape(times), "[steps + 1] with at least one step")
        decreasing = trees.traced(times) or np.all(np.diff(times) < 0)
        checks.require(decreasing, "times", times, "decreasing times, from noise to data in both directions")
    if end is not None and known:
        good = np.ndim(end) == 0 and process.t_min <= end < process.t_max
        checks.require(good, "end", end, f"times from t_min = {process.t_min} to below t_max = {process.t_max}")
    dtype = trees.wide(*jax.tree.leaves(x))
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), x)
