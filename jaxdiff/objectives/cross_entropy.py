"""Cross-entropy of classifiers, of clean or of noisy examples."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from jaxdiff import checks, processes, trees
from jaxdiff.components import choose
from jaxdiff.objectives import times as samplers
from jaxdiff.objectives.objective import Context, Function, Loss, Objective
from jaxdiff.objectives.times import TimesChoice, stratified


def cross_entropy(
    logits: Float[Array, "batch classes"], labels: Int[Array, " batch"], smoothing: float = 0.0
) -> Float[Array, " batch"]:
    """The cross-entropy `-sum_y q(y) log p(y)`; q gives the label 1 - smoothing, and the rest to all classes alike."""
    log_p = jax.nn.log_softmax(logits)
    of_label = jnp.take_along_axis(log_p, labels[:, None], axis=-1)[:, 0]
    return -(1 - smoothing) * of_label - smoothing * jnp.mean(log_p, axis=-1)


@dataclasses.dataclass(frozen=True)
class CrossEntropy(Objective):
    """The cross-entropy of a `Classifier`. With a process it is that of noisy examples, for guidance.

    Dhariwal & Nichol 2021 (arXiv 2105.05233), section 4. It asks of the model `process` and `logits(params, x, t)`, and
    reports `accuracy`.

    Attributes:
      times: the noise levels of the examples, if the model has a process.
      smoothing: the share of the probability that all classes get alike.
    """

    times: TimesChoice = choose(stratified)
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        checks.fraction("smoothing", self.smoothing)

    @property
    def couples(self) -> bool:
        return samplers.learns(self.times)

    def extra(self, model: Any) -> PyTree:
        return {} if model.process is None else samplers.mutable(self.times(process=model.process))

    def make(self, model: Any) -> Function:
        checks.require(hasattr(model, "logits"), "model", type(model).__name__, "Classifier with this objective")
        process = model.process
        sampler = None if process is None else self.times(process=process)

        def objective(params: PyTree, key: Any, batch: Mapping[str, Any], context: Context) -> Loss:
            x, labels = batch["x"], batch["label"]
            random = trees.batch_key(key, trees.batch_size(x))

            def of(x: Array, t: Any = None) -> tuple[Array, dict[str, Array]]:
                logits = model.logits(params, x, t, random.each(2))
                right = jnp.argmax(logits, axis=-1) == labels
                return cross_entropy(logits, labels, self.smoothing), {"accuracy": right.astype(jnp.float32)}

            if process is None or sampler is None:
                return Loss(*of(x))
            chosen = samplers.current(sampler, context.extra)
            drawn = chosen(jax.random.fold_in(random.key, 0), process, random.size)
            t, time_weight = (value[random.index] for value in drawn)
            losses, shown = of(processes.corrupt(process, x, trees.normal_like(random.each(1), x), t), t)
            return Loss(losses * time_weight, shown, samplers.recorded(chosen, t, losses))

        return objective
