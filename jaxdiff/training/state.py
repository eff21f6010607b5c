"""The train state: everything a step reads and writes."""

import dataclasses
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, Key, PyTree

from jaxdiff import trees


@trees.register
@dataclasses.dataclass(frozen=True)
class State:
    """Attributes:
    step: how many steps have been made.
    params: the parameters, float32.
    opt_state: the optimiser's.
    ema: averages of the parameters, by name.
    key: the run's key; step i draws with `fold_in(key, i)`, so it never changes.
    skipped: how many of the steps changed nothing, their gradient being not finite.
    consecutive_skips: how many of the last steps.
    """

    step: Int[Array, ""]
    params: PyTree
    opt_state: PyTree
    ema: dict[str, PyTree]
    key: Key[Array, ""]
    skipped: Int[Array, ""]
    consecutive_skips: Int[Array, ""]


def initial_state(
    params: PyTree, optimizer: optax.GradientTransformation, key: Key[Array, ""], averages: Iterable[str] = ("ema",)
) -> State:
    """The state before the first step: every average starts as a copy of the parameters."""
    ema = {name: jax.tree.map(jnp.copy, params) for name in averages}
    # An array each: one buffer cannot be donated twice.
    step, skipped, consecutive_skips = (jnp.zeros((), jnp.int32) for _ in range(3))
    return State(step, params, optimizer.init(params), ema, key, skipped, consecutive_skips)
