"""Integration of the probability-flow ODE over a grid, by the classical Runge-Kutta method of order 4."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxdiff import loops
from jaxdiff.probability_flow.variables import Path, Rate, time_at


def solve(
    rate: Rate, state: Any, r: Float[Array, " steps+1"], times: Float[Array, " steps+1"], path: Path, extra: Any
) -> tuple[Any, Int[Array, ""]]:
    """Takes a state from `r[0]` to `r[-1]`, in steps with four stages each:

        k_j = rate(state + a_j h k_{j-1})
        state <- state + h sum_j b_j k_j

    Args:
      rate: `(t, state, (denoiser, extra)) -> d state / dr`.
      times: the times that belong to `r`.

    Returns:
      The state at `r[-1]`, and the number of evaluations of the denoiser.
    """
    dtype = r.dtype
    half = time_at(path, (r[:-1] + r[1:]) / 2)
    stage_times = jnp.stack([times[:-1], half, half, times[1:]], axis=1)
    a, b = jnp.asarray([0, 1 / 2, 1 / 2, 1], dtype), jnp.asarray([1 / 6, 1 / 3, 1 / 3, 1 / 6], dtype)

    def step(state: Any, row: Any) -> tuple[Any, None]:
        h, stage_times = row

        def stage(carry: tuple[Any, Any], column: Any) -> tuple[Any, None]:
            total, last = carry
            t, a, b = column
            k = rate(t, jax.tree.map(lambda y, k: y + a * h * k, state, last), (path.denoiser, extra))
            return (jax.tree.map(lambda y, k: y + b * h * k, total, k), k), None

        zeros = jax.tree.map(jnp.zeros_like, state)
        return loops.scan(stage, (state, zeros), (stage_times, a, b))[0][0], None

    state, _ = loops.scan(step, state, (r[1:] - r[:-1], stage_times))
    return state, jnp.asarray(stage_times.size, jnp.int32)
