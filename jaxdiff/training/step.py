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
from jaxdiff.objectives.objective import Context, Loss
from jaxdiff.training.state import State, averaged

Step = Callable[..., tuple[State, dict[str, Any]]]
Places = Callable[[int], tuple[Int[Array, " batch"], int]]

# The metrics of the step itself. An objective's metrics have other names.
METRICS = ("loss", "grad_norm", "skipped", "consecutive_skips")


def make_step(
    objective: Callable[..., Any],
    optimizer: optax.GradientTransformation,
    averages: Mapping[str, Rule],
    *,
    accumulate: int = 1,
    reduce: Callable[[PyTree], PyTree] = lambda tree: tree,
    places: Places | None = None,
    project: Callable[[PyTree], PyTree] = lambda params: params,
) -> Step:
    """Makes the step `(state, batch, frozen=None) -> (state, metrics)`, which lowers the mean of the losses.

    A step whose loss or gradient is not finite is skipped: it changes only the counts of steps and of skipped steps.

    Args:
      objective: `(params, key, batch, context) -> (losses, metrics[, updates])`, see `objectives.objective`. If the
        objective sees a part of the batch, `key` is a `trees.BatchKey`, with which an example draws the same numbers as
        in the whole batch.
      optimizer: any Optax transformation.
      averages: the rule of each average in the state, by name.
      accumulate: number of parts of the batch. The parts are evaluated one after the other, and their gradients are
        averaged.
      reduce: function of gradients and metrics, applied before they are used. Under `jax.pmap`, where each device sees
        a part of the batch, it is the mean over devices: `lambda tree: jax.lax.pmean(tree, "data")`. Under `jax.jit`,
        which sees the whole batch, it is not needed.
      places: function from the number of local examples to their indices in the whole batch and the size of the whole
        batch; None if the local examples are the whole batch.
      project: function of the updated parameters, whose result replaces them, in averages too: `network.project`.

    Returns:
      The step. `frozen` is `Context.frozen`. The metrics are scalars: `loss`, the means of the objective's metrics,
      `grad_norm`, `skipped` (1 for a skipped step, or 0) and `consecutive_skips`.
    """

    def step(state: State, batch: PyTree, frozen: Any = None) -> tuple[State, dict[str, Any]]:
        step_key, size = jax.random.fold_in(state.key, state.step), trees.batch_size(batch)
        context = Context(state.step, state.ema, frozen, state.extra)

        def mean_loss(params: PyTree, key: Any, batch: PyTree) -> tuple[Any, tuple[dict[str, Any], PyTree]]:
            loss = Loss(*objective(params, key, batch, context))
            metrics = {name: jnp.mean(value) for name, value in loss.metrics.items()}
            updates = state.extra if loss.updates is None else loss.updates
            return jnp.mean(loss.losses), (metrics, jax.lax.stop_gradient(updates))

        def gradient(key: Any, batch: PyTree) -> tuple[PyTree, dict[str, Any], PyTree]:
            differentiated = jax.value_and_grad(mean_loss, has_aux=True)
            (loss, (metrics, updates)), gradients = differentiated(state.params, key, batch)
            return gradients, {"loss": loss, **metrics}, updates

        if accumulate == 1 and places is None:
            gradients, metrics, extra = gradient(step_key, batch)
        else:
            index, whole = places(size) if places else (jnp.arange(size), size)
            key = trees.BatchKey(step_key, index, whole)
            gradients, metrics, extra = _mean_over_parts(gradient, key, batch, accumulate)
        gradients, metrics, extra = reduce((gradients, metrics, extra))
        extra = trees.cast_like(extra, state.extra)
        norm = optax.tree.norm(gradients)
        finite = jnp.isfinite(metrics["loss"]) & jnp.isfinite(norm)

        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = project(optax.apply_updates(state.params, updates))
        number = state.step + 1
        ema = {name: update(state.ema[name], averaged(params), rule(number)) for name, rule in averages.items()}
        params, opt_state, ema, extra = jax.tree.map(
            lambda new, old: jnp.where(finite, new, old),
            (params, opt_state, ema, extra),
            (state.params, state.opt_state, state.ema, state.extra),
        )
        skipped = 1 - finite.astype(jnp.int32)
        consecutive = skipped * (state.consecutive_skips + 1)
        metrics |= {"grad_norm": norm, "skipped": skipped, "consecutive_skips": consecutive}
        skips = state.skipped + skipped
        return State(number, params, opt_state, ema, extra, state.key, skips, consecutive), metrics

    return step


def repeated(step: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function `(state, batches, *rest) -> (state, metrics)` that makes one step per batch.

    Args:
      step: `(state, batch, *rest) -> (state, metrics)`.

    Returns:
      The function. Its `batches` and its metrics have a leading axis, with one entry per step.
    """
    return lambda state, batches, *rest: jax.lax.scan(lambda state, batch: step(state, batch, *rest), state, batches)


def _mean_over_parts(gradient: Callable[[Any, PyTree], PyTree], key: trees.BatchKey, batch: PyTree, parts: int) -> Any:
    """The mean gradient, the mean metrics and the mean updates of a batch, computed part by part."""

    def cut(leaf: Array) -> Array:
        # Part i takes the examples i, i + parts, i + 2 parts, ... Each device then holds examples of every part.
        return jnp.swapaxes(leaf.reshape(-1, parts, *leaf.shape[1:]), 0, 1)

    size = trees.batch_size(batch)
    require(size % parts == 0, "accumulate", parts, f"divisors of the local batch size {size}")
    if parts == 1:
        return gradient(key, batch)

    def of_part(part: Any) -> PyTree:
        index, examples = part
        return gradient(trees.BatchKey(key.key, index, key.size), examples)

    def add(total: PyTree, part: Any) -> tuple[PyTree, None]:
        return jax.tree.map(jnp.add, total, of_part(part)), None

    cuts = jax.tree.map(cut, (key.index, batch))
    shapes = jax.eval_shape(of_part, jax.tree.map(lambda leaf: leaf[0], cuts))
    zeros = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)
    total, _ = jax.lax.scan(add, zeros, cuts)
    return jax.tree.map(lambda leaf: leaf / parts, total)
