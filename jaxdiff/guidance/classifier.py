"""Classifier guidance: the gradient of a classifier of noisy data is added to the score."""

import dataclasses
from collections.abc import Callable
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from jaxdiff import trees
from jaxdiff.checks import did_you_mean, message, require
from jaxdiff.components import Part
from jaxdiff.denoisers import Denoiser
from jaxdiff.guidance.classifier_free import ClassifierFree
from jaxdiff.guidance.estimates import with_score
from jaxdiff.guidance.frozen import opened, parts_of
from jaxdiff.guidance.guidance import Asked, Guidance
from jaxdiff.guidance.guided import GuidedDenoiser, guided
from jaxdiff.guidance.schedules import Schedule, as_scale, finite, scale_at
from jaxdiff.jitted import as_pytree
from jaxdiff.parametrizations import Estimate
from jaxdiff.processes import Process, same_process


@trees.register
@dataclasses.dataclass(frozen=True)
class AddedGradient:
    """The rule of classifier guidance: the score grows by `scale grad log_prob(x_t, t)`."""

    log_prob: Callable[[PyTree, Any], Float[Array, " batch"]]
    scale: Any

    def __call__(self, process: Process, x: PyTree, t: Any, estimate: Estimate) -> Estimate:
        """The guided estimate."""
        gradient = gradient_of(lambda x: (self.log_prob(x, t), None), "log_prob(x, t)", x)[0]
        return with_score(process, estimate, gradient, scale_at(self.scale, process, x, t), t)


def gradient_of(function: Callable[[PyTree], tuple[Float[Array, " batch"], Any]], name: str, x: PyTree) -> Any:
    """The gradient of one number per example, and whatever else the function gives.

    The numbers are summed, so that the gradient of an example sees no other example.
    """

    def total(x: PyTree) -> tuple[Any, Any]:
        values, more = function(x)
        batch = (trees.batch_size(x),)
        require(jnp.shape(values) == batch, f"shape of {name}", jnp.shape(values), f"{batch}, one number per example")
        return jnp.sum(values), more

    return jax.grad(total, has_aux=True)(x)


def classifier(
    denoiser: Denoiser, log_prob: Callable[[PyTree, Any], Float[Array, " batch"]], scale: Any
) -> GuidedDenoiser:
    """Classifier guidance: the score grows by the gradient of `scale log p(y | x_t)`.

        eps' = eps - scale sigma grad        x0' = x0 + scale sigma^2/alpha grad

    Dhariwal & Nichol 2021 (arXiv 2105.05233), equation 14 and algorithm 2. A scale of 1 is exact: with `p(y | x_t, t)`
    of the noisy data of an unconditional denoiser, samples follow `p(x | y)`. Without signal (`alpha = 0`) x_t says
    nothing of y, and x0 stays. A step costs one evaluation, and the classifier with its gradient.

    Args:
      denoiser: the denoiser of `p(x)`; or a conditional one.
      log_prob: a function `(x_t, t) -> [batch]` that JAX can differentiate, such as the log-probability of a class. `t`
        is a scalar or `[batch]`. If it is a pytree, its numbers are leaves.
      scale: a number, `[batch]` or a function `(process, t) -> scale`, as for `classifier_free`.

    Raises:
      TypeError: `log_prob` is not callable.
      ValueError: `scale` has more than one axis. When the result is called: a shape does not fit.
    """
    require(callable(log_prob), "log_prob", log_prob, "functions (x, t) -> [batch]", TypeError)
    return guided(AddedGradient(as_pytree(log_prob), as_scale(scale)), denoiser=denoiser)


@trees.register
@dataclasses.dataclass(frozen=True)
class ClassProbability:
    """The log-probability `(x, t) -> [batch]` of classes, by a classifier of noisy data.

    Attributes:
      model: a model with `log_probability(x, t) -> [batch, classes]`, such as a `Classifier` run.
      labels: the classes, `[1]` or `[batch]`. A class beyond the last one, as the null class is, asks for nothing.
    """

    model: Any
    labels: Int[Array, " 1_or_batch"]

    def __call__(self, x: PyTree, t: Any) -> Float[Array, " batch"]:
        """The log-probability of the class of each example."""
        log_p = self.model.log_probability(x, t)
        labels = jnp.broadcast_to(self.labels, len(log_p))
        return jnp.sum(jnp.where(labels[:, None] == jnp.arange(log_p.shape[1]), log_p, 0), axis=1)


@dataclasses.dataclass(frozen=True)
class ClassifierGuidance(Guidance):
    """Guidance by a noisy `Classifier` run, towards the class that is asked for: `classifier`.

    The classifier and the model must have the same process and the same codec.

    Attributes:
      run: the run directory of the classifier.
      scale: the scale of the gradient; 1 is exact for an unconditional model.
      label: the class, by its number or its name; none for the class that is asked of `condition`.
      condition: the condition of the model whose class is asked for, if `label` is none.
      rule: the guidance to which the gradient is added.
    """

    run: Part
    scale: float | Schedule = 1.0
    label: int | str | None = None
    condition: str = "label"
    rule: Guidance = ClassifierFree()

    def __post_init__(self) -> None:
        finite("scale", self.scale)

    @property
    def consistent(self) -> bool:
        return self.rule.consistent

    def load(self, open: Callable[[str], Any]) -> Any:
        return parts_of(open, self.run) | (self.rule.load(open) or {})

    def unasked(self) -> Self | None:
        return None if self.label is None else dataclasses.replace(self, rule=self.rule.unasked() or ClassifierFree())

    def __call__(self, denoiser_of: Callable[[PyTree], Denoiser], asked: Asked, frozen: Any = None) -> Denoiser:
        model = opened(frozen, "run", self.run)
        good = hasattr(model, "log_probability") and model.bound.process is not None
        require(good, "run", self.run, "runs of a Classifier with a process, which knows noisy examples")
        inner, process = self.rule(denoiser_of, asked, frozen), model.bound.process
        if not same_process(inner.process, process):
            raise ValueError(message("process of the classifier", process, f"that of the model, {inner.process}"))
        labels = self._labels(model.bound.fields[model.bound.settings.label], asked)
        return classifier(inner, ClassProbability(model, labels), self.scale)

    def _labels(self, field: Any, asked: Asked) -> Int[Array, " 1_or_batch"]:
        """The classes of the samples."""
        if self.label is None:
            asked_for = asked.cond.get(self.condition)
            allowed = "names of conditions of classes, or a label of its own"
            good = isinstance(asked_for, jax.Array) and jnp.issubdtype(asked_for.dtype, jnp.integer)
            require(good, "condition", self.condition, allowed)
            return jnp.asarray(asked_for)
        if str(self.label) in field.names:
            return jnp.asarray([field.names.index(str(self.label))])
        good = isinstance(self.label, int) and 0 <= self.label < field.classes
        names = ", ".join(field.names)
        near = did_you_mean(str(self.label), field.names)
        allowed = f"classes from 0 to {field.classes - 1}{f' and {names}' * bool(names)}{near}"
        require(good, "label", self.label, allowed)
        return jnp.asarray(np.asarray([self.label], np.int32))
