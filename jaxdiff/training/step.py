"""The training step: one pure function, whatever the objective and however it is spread over devices."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree

from jaxdiff import averages, trees
from jaxdiff.objectives.denoising import Objective
from jaxdiff.training.state import State

Step = Callable[[State, PyTree], tuple[State, dict[str, Any]]]
Places = Callable[[int], tuple[Int[Array, " batch"], int]]


def make_step(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    averages: Mapping[str, averages.Rule],
    *,
    accumulate: int = 1,
    reduce: Callable[[PyTree], PyTree] = lambda tree: tree,
    places: Places | None = None,
) -> Step:
    """The step `(state, batch) -> (state, metrics)`: minimise the mean of the per-example losses.

    A step whose loss or gradient is not finite changes nothing but the counts of steps and of skipped ones.

    Args:
      objective: `(params, key, batch) -> (losses [batch], metrics)`. Where it sees a part of the batch, `key` is a
        `trees.BatchKey`, so that an example draws what it would have drawn in the whole batch.
      optimizer: any Optax transformation.
      averages: a rule for each average in the state.
      accumulate: parts that the batch is cut into, one after the other; their gradients are averaged.
      reduce: applied to gradients and metrics before they are used: the mean over devices where each sees a part of
        the batch, as `lambda tree: jax.lax.pmean(tree, "data")` under `jax.pmap`. Nothing is needed under `jax.jit`,
        which sees the whole batch.
      places: the number of examples at hand to their places in the whole batch and its size; None where they are it.

    Returns: the step. Its metrics are scalars: `loss`, `grad_norm`, `skipped` (1 if the step was),
      `consecutive_skips`, and the mean `mse` of objectives that report one.
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
        averaged = {name: averages.update(state.ema[name], params, rule(number)) for name, rule in averages.items()}
        params, opt_state, averaged = jax.tree.map(
            lambda new, old: jnp.where(finite, new, old),
            (params, opt_state, averaged),
            (state.params, state.opt_state, state.ema),
        )
        skipped = 1 - finite.astype(jnp.int32)
        in_a_row = skipped * (state.consecutive_skips + 1)
        metrics |= {"grad_norm": norm, "skipped": skipped, "consecutive_skips": in_a_row}
        return State(number, params, opt_state, averaged, state.key, state.skipped + skipped, in_a_row), metrics

    return step


def repeated(step: Callable[..., Any]) -> Callable[..., Any]:
    """The step made once for each entry of the batch's new leading axis: `(state, batches, *rest) -> (state, metrics)`,
    the metrics with that axis too.
    """
    return lambda state, batches, *rest: jax.lax.scan(lambda state, batch: step(state, batch, *rest), state, batches)


def _mean_over_parts(
    gradient: Callable[[Any, PyTree], tuple[PyTree, dict[str, Any]]], key: trees.BatchKey, batch: PyTree, parts: int
) -> tuple[PyTree, dict[str, Any]]:
    """The mean gradient and metrics of a batch, from those of its parts."""

    def cut(leaf: Array) -> Array:
        # Every part takes a row of each run of `parts`, so that a batch spread over devices is cut on each of them.
        return jnp.swapaxes(leaf.reshape(-1, parts, *leaf.shape[1:]), 0, 1)

    if trees.batch_size(batch) % parts:
        raise ValueError(f"accumulate = {parts}; allowed are divisors of the batch at hand, {trees.batch_size(batch)}")
    if parts == 1:
        return gradient(key, batch)

    def add(total: PyTree, part: Any) -> tuple[PyTree, None]:
        index, rows = part
        found = gradient(trees.BatchKey(key.key, index, key.size), rows)
        return jax.tree.map(jnp.add, total, found), None

    cuts = jax.tree.map(cut, (key.index, batch))
    shapes = jax.eval_shape(
        lambda part: gradient(trees.BatchKey(key.key, part[0], key.size), part[1]),
        jax.tree.map(lambda leaf: leaf[0], cuts),
    )
    zeros = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)
    total, _ = jax.lax.scan(add, zeros, cuts)
    return jax.tree.map(lambda leaf: leaf / parts, total)
