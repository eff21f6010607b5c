"""The train state: everything that a training step reads and writes."""

import dataclasses
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, Key, PyTree

from jaxdiff import trees

MAX_STEPS = 2**31 - 1
"""The most steps that a run can count, since a train state counts them in int32."""


@trees.register
@dataclasses.dataclass(frozen=True)
class State:
    """The train state.

    Attributes:
      step: number of steps made, including skipped steps.
      params: the parameters, float32.
      opt_state: the state of the optimiser.
      ema: averages of the parameters, by name; see `averaged`.
      extra: mutable values of the objective, such as statistics.
      key: the random key of the run, which never changes. Step i draws with `fold_in(key, i)`.
      skipped: number of skipped steps. A step whose loss or gradient is not finite is skipped.
      consecutive_skips: number of skipped steps since the last step that was not skipped.
    """

    step: Int[Array, ""]
    params: PyTree
    opt_state: PyTree
    ema: dict[str, PyTree]
    extra: PyTree
    key: Key[Array, ""]
    skipped: Int[Array, ""]
    consecutive_skips: Int[Array, ""]


def initial_state(
    params: PyTree,
    optimizer: optax.GradientTransformation,
    key: Key[Array, ""],
    averages: Iterable[str] = ("ema",),
    extra: PyTree = None,
) -> State:
    """Returns the state before the first step. Every average starts as a copy of the parameters.

    The state may be donated: it shares no buffer with `params` or `extra`.

    Args:
      params: the initial parameters.
      optimizer: any Optax transformation.
      key: the random key of the run.
      averages: names of the averages.
      extra: the first mutable values of the objective.
    """
    params, extra = jax.tree.map(jnp.copy, (params, extra))
    ema = {name: jax.tree.map(jnp.copy, averaged(params)) for name in averages}
    # Three arrays, because one buffer cannot be donated twice.
    step, skipped, consecutive_skips = (jnp.zeros((), jnp.int32) for _ in range(3))
    return State(step, params, optimizer.init(params), ema, extra, key, skipped, consecutive_skips)


def averaged(params: PyTree) -> PyTree:
    """The parameters that averages cover: all, but not those of the objective, which have no use after training."""
    if isinstance(params, dict) and "objective" in params:
        return {name: part for name, part in params.items() if name != "objective"}
    return params


def whole_average(params: PyTree, average: PyTree) -> PyTree:
    """An average with the parameters of the objective, which no average covers."""
    return average if averaged(params) is params else {**average, "objective": params["objective"]}
