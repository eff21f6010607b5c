"""The training step: one pure function for all objectives and all strategies of distribution."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree

from jaxdiff import trees
from jaxdiff.averages import Rule, update
from jaxdiff.checks import require
from jaxdiff.objectives.denoising import Objective
from jaxdiff.training.state import State

Step = Callable[[State, PyTree], tuple[State, dict[str, Any]]]
Places = Callable[[int], tuple[Int[Array, " batch"], int]]


def make_step(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    averages: Mapping[str, Rule],
    *,
    accumulate: int = 1,
    reduce: Callable[[PyTree], PyTree] = lambda tree: tree,
    places: Places | None = None,
) -> Step:
    """Makes the step `(state, batch) -> (state, metrics)`, which lowers the mean of the per-example losses.

    A step whose loss or gradient is not finite is skipped: it changes only the counts of steps and of skipped steps.

    Args:
      objective: `(params, key, batch) -> (losses [batch], metrics)`. If the objective sees a part of the batch, `key`
        is a `trees.BatchKey`, with which an example draws the same numbers as in the whole batch.
      optimizer: any Optax transformation.
      averages: the rule of each average in the state, by name.
      accumulate: number of parts of the batch. The parts are evaluated one after the other, and their gradients are
        averaged.
      reduce: function of gradients and metrics, applied before they are used. Under `jax.pmap`, where each device sees
        a part of the batch, it is the mean over devices: `lambda tree: jax.lax.pmean(tree, "data")`. Under `jax.jit`,
        which sees the whole batch, it is not needed.
      places: function from the number of local examples to their indices in the whole batch and the size of the whole
        batch; None if the local examples are the whole batch.

    Returns:
      The step. Its metrics are scalars: `loss`, `grad_norm`, `skipped` (1 for a skipped step, or 0),
      `consecutive_skips`, and the mean `mse` if the objective reports `mse`.
    """

    def step(state: State, batch: PyTree) -> tuple[State, dict[str, Any]]:
        step_key, size = jax.random.fold_in(state.key, state.step), trees.batch_size(batch)

        def mean_loss(params: PyTree, key: Any, batch: PyTree) -> tuple[Any, dict[str, Any]]:
            losses, metrics = objective(params, key, batch)
            return jnp.mean(losses), {"mse": jnp.mean(metrics["mse"])} if "mse" in metrics else {}

        def gradient(key: Any, batch: PyTree) -> tuple[PyTree, dict[str, Any]]:
            (loss, metrics), gradients = jax.value_and_grad(mean_loss, has_aux=True)(state.params, key, batch)
            return gradients, {"loss": loss, **metrics}

        if accumulate == 1 and places is None:
            gradients, metrics = gradient(step_key, batch)
        else:
            index, whole = places(size) if places else (jnp.arange(size), size)
            key = trees.BatchKey(step_key, index, whole)
            gradients, metrics = _mean_over_parts(gradient, key, batch, accumulate)
        gradients, metrics = reduce((gradients, metrics))
        norm = optax.tree.norm(gradients)
        finite = jnp.isfinite(metrics["loss"]) & jnp.isfinite(norm)

        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        number = state.step + 1
        averaged = {name: update(state.ema[name], params, rule(number)) for name, rule in averages.items()}
        params, opt_state, averaged = jax.tree.map(
            lambda new, old: jnp.where(finite, new, old),
            (params, opt_state, averaged),
            (state.params, state.opt_state, state.ema),
        )
        skipped = 1 - finite.astype(jnp.int32)
        consecutive = skipped * (state.consecutive_skips + 1)
        metrics |= {"grad_norm": norm, "skipped": skipped, "consecutive_skips": consecutive}
        return State(number, params, opt_state, averaged, state.key, state.skipped + skipped, consecutive), metrics

    return step


def repeated(step: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function `(state, batches, *rest) -> (state, metrics)` that makes one step per batch.

    Args:
      step: `(state, batch, *rest) -> (state, metrics)`.

    Returns:
      The function. Its `batches` and its metrics have a leading axis, with one entry per step.
    """
    return lambda state, batches, *rest: jax.lax.scan(lambda state, batch: step(state, batch, *rest), state, batches)


def _mean_over_parts(
    gradient: Callable[[Any, PyTree], tuple[PyTree, dict[str, Any]]], key: trees.BatchKey, batch: PyTree, parts: int
) -> tuple[PyTree, dict[str, Any]]:
    """The mean gradient and the mean metrics of a batch, computed part by part."""

    def cut(leaf: Array) -> Array:
        # Part i takes the examples i, i + parts, i + 2 parts, ... Each device then holds examples of every part.
        return jnp.swapaxes(leaf.reshape(-1, parts, *leaf.shape[1:]), 0, 1)

    size = trees.batch_size(batch)
    require(size % parts == 0, "accumulate", parts, f"divisors of the local batch size {size}")
    if parts == 1:
        return gradient(key, batch)

    def of_part(part: Any) -> tuple[PyTree, dict[str, Any]]:
        index, examples = part
        return gradient(trees.BatchKey(key.key, index, key.size), examples)

    def add(total: PyTree, part: Any) -> tuple[PyTree, None]:
        return jax.tree.map(jnp.add, total, of_part(part)), None

    cuts = jax.tree.map(cut, (key.index, batch))
    shapes = jax.eval_shape(of_part, jax.tree.map(lambda leaf: leaf[0], cuts))
    zeros = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)
    total, _ = jax.lax.scan(add, zeros, cuts)
    return jax.tree.map(lambda leaf: leaf / parts, total)
