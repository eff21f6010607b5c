"""Steps of given lengths along the probability-flow ODE, by the classical Runge-Kutta method of order 4."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxdiff.probability_flow.variables import Path, Rate, time_at


def solve(
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
