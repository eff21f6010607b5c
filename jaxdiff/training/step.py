"""The training step: one pure function, whatever the objective and however it is spread over devices."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from jaxdiff.objectives.denoising import Objective
from jaxdiff.training import ema
from jaxdiff.training.state import State

Step = Callable[[State, PyTree], tuple[State, dict[str, Any]]]


def make_step(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    averages: Mapping[str, ema.Rule],
    reduce: Callable[[PyTree], PyTree] = lambda tree: tree,
) -> Step:
    """The step `(state, batch) -> (state, metrics)`: minimise the mean of the per-example losses.

    Args:
      objective: `(params, key, batch) -> (losses [batch], metrics)`.
      optimizer: any Optax transformation.
      averages: a rule for each average in the state.
      reduce: applied to gradients and metrics before they are used: the mean over devices where each sees a part of
        the batch, as `lambda tree: jax.lax.pmean(tree, "data")` under `jax.pmap`; there each device's state must have a
        key of its own, or all would draw the same noise. Nothing is needed under `jax.jit`, which sees the whole batch.

    Returns: the step. Its metrics are scalars: `loss`, `grad_norm`, and the mean `mse` of objectives that report one.
    """

    def step(state: State, batch: PyTree) -> tuple[State, dict[str, Any]]:
        def mean_loss(params: PyTree) -> tuple[Any, dict[str, Any]]:
            losses, metrics = objective(params, jax.random.fold_in(state.key, state.step), batch)
            return jnp.mean(losses), {"mse": jnp.mean(metrics["mse"])} if "mse" in metrics else {}

        (loss, metrics), gradients = jax.value_and_grad(mean_loss, has_aux=True)(state.params)
        gradients, metrics = reduce((gradients, {"loss": loss, **metrics}))
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        number = state.step + 1
        averaged = {name: ema.update(state.ema[name], params, rule(number)) for name, rule in averages.items()}
        metrics["grad_norm"] = optax.tree.norm(gradients)
        return State(number, params, opt_state, averaged, state.key), metrics

    return step
