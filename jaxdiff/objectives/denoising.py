"""Denoising score matching: corrupt the data, let the network predict the target, and weight its error."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PyTree

from jaxdiff import checks, parametrizations, processes, trees
from jaxdiff.components import at, choose
from jaxdiff.objectives import log_variance as learned_weights
from jaxdiff.objectives import times as samplers
from jaxdiff.objectives.objective import Context, Function, Loss, Objective
from jaxdiff.objectives.recorded import Recorded
from jaxdiff.objectives.times import TimeSampler, TimesChoice, stratified, uniform
from jaxdiff.objectives.weightings import Weighting, WeightingChoice
from jaxdiff.parametrizations import Estimate, Parametrization
from jaxdiff.processes import Process

# The losses and the metrics of a batch.
Losses = tuple[Float[Array, " batch"], dict[str, Float[Array, " batch"]]]


def denoising(
    process: Process,
    parametrization: Parametrization,
    apply: Callable[..., PyTree],
    *,
    weighting: Weighting | None = None,
    times: TimeSampler | None = None,
    null: PyTree = None,
    dropout: float = 0.0,
    log_variance: Callable[[PyTree, Float[Array, " batch"]], Float[Array, " batch"]] | None = None,
    with_key: bool = False,
) -> Callable[..., Losses]:
    """Returns the denoising loss of a network, as a function of its parameters, a key and a batch:

        x_t = alpha x0 + sigma eps
        F = p x0 + q eps
        loss = w(t) mean|(F_hat - F)/det|^2 = w(t) mean|(x0_hat - x0)/sigma|^2

    The mean is over the coordinates of an example. The parametrization, the weighting of the errors and the sampler of
    times are independent choices. Vincent 2011; Ho et al. 2020 (arXiv 2006.11239), equation 14; Kingma & Gao 2023
    (arXiv 2303.00848).

    Args:
      process, parametrization, apply: as for `denoisers.from_network`.
      weighting: see `objectives.weightings`. None gives the plain squared error of the network's own output.
      times: see `objectives.times`. None gives `times.uniform()`.
      null: the value that replaces a dropped `batch["cond"]`: a pytree of the same structure, with leaves that are
        scalars or `[*event]`. If the condition is a mapping, only the entries that `null` has are dropped.
      dropout: the probability that an example loses its condition, for classifier-free guidance: Ho & Salimans 2022
        (arXiv 2207.12598), algorithm 1.
      log_variance: a learned function `u(params, time)`, where `time` is the network's time input. The loss becomes
        `loss/e^u + u`. Karras et al. 2024 (EDM2, arXiv 2312.02696).
      with_key: whether to call `apply(..., key=keys)`, with one key per example, for networks that draw random
        numbers in training.

    Returns:
      A function `(params, key, batch, context=None) -> (losses, metrics)`, an objective of `training.make_step`, which
      needs no context. `batch["x"]` has leaves `[batch, *event]`. If there is a `batch["cond"]`, it is given to the
      network. The key is one key; or a `trees.BatchKey` if `batch` is a part of a larger batch: an example then has the
      loss that it has in the larger batch. Losses and metrics are `[batch]` each.
      The metrics are `t`, `time_weight`, and `mse`, the mean squared error of the output.

    Raises:
      TypeError: when called: `batch["x"]` is not floating-point, such as pictures in bytes.
      ValueError: the parametrization does not fit the process, or `dropout` is not from 0 to 1 or has no `null`. When
        called: `dropout` without `batch["cond"]`, or a network whose output does not have the shapes of `batch["x"]`.
    """
    parametrizations.check(process, parametrization)
    checks.fraction("dropout", dropout)
    allowed = "values for a dropped condition where dropout is above 0"
    checks.require(not dropout or null is not None, "null", null, allowed)

    sampler = uniform() if times is None else times

    def objective(
        params: PyTree,
        key: Key[Array, ""] | trees.BatchKey,
        batch: Mapping[str, PyTree],
        context: Context | None = None,
    ) -> Losses:
        x0, cond = batch["x"], batch.get("cond")
        trees.check_floating("batch['x']", x0)
        checks.require(not dropout or cond is not None, "batch['cond']", cond, "conditions where dropout is above 0")
        random = trees.batch_key(key, trees.batch_size(x0))
        # Times may depend on each other (stratified), so they are drawn for the whole batch, even for a part of it.
        t, time_weight = (
            drawn[random.index] for drawn in sampler(jax.random.fold_in(random.key, 0), process, random.size)
        )
        eps = trees.normal_like(random.each(1), x0)
        arguments: tuple[PyTree, ...] = (trees.per_example(parametrization.time_input(process, t), x0),)
        if cond is not None:
            arguments += (drop_condition(random.each(2), cond, null, dropout) if dropout else cond,)
        x = trees.lincomb((parametrization.scale(process, t),), (processes.corrupt(process, x0, eps, t),))
        output = apply(params, x, *arguments, **({"key": random.each(3)} if with_key else {}))
        trees.check_alike("the network's output", output, x0)
        target = parametrizations.output_of(process, parametrization, Estimate(x0, eps), t)
        mse = trees.mean_square(trees.lincomb((1.0, -1.0), (output, target)))
        loss = mse
        if weighting is not None:
            loss = mse * weighting(process, t) / parametrizations.determinant(process, parametrization, t) ** 2
        if log_variance is not None:
            u = log_variance(params, arguments[0])
            loss = loss * jnp.exp(-u) + u
        return loss * time_weight, {"t": t, "time_weight": time_weight, "mse": mse}

    return objective


def drop_condition(key: Key[Array, "*batch"], cond: PyTree, null: PyTree, rate: float) -> PyTree:
    """Returns `cond` with each example replaced by `null` with probability `rate`.

    Args:
      key: one key, or one key per example.
      cond: leaves `[batch, *event]`.
      null: the same structure, with leaves `[*event]` or scalars. If `cond` is a mapping, entries that `null` lacks are
        never dropped.
      rate: from 0 to 1.

    Raises:
      ValueError: a leaf of `null` does not have the shape of one example.
    """
    key = trees.as_key(key)
    if key.ndim:
        dropped = jax.vmap(lambda key: jax.random.bernoulli(key, rate))(key)
    else:
        dropped = jax.random.bernoulli(key, rate, (trees.batch_size(cond),))

    def replace(leaf: Array, null: Array) -> Array:
        good = np.shape(null) in ((), leaf.shape[1:])
        checks.require(good, "null.shape", np.shape(null), f"() and {leaf.shape[1:]}, the shape of one condition")
        return jnp.where(trees.expand(dropped, leaf), jnp.asarray(null, leaf.dtype), leaf)

    cond = jax.tree.map(jnp.asarray, cond)
    if isinstance(cond, Mapping) and isinstance(null, Mapping):
        return {**cond, **jax.tree.map(replace, {name: cond[name] for name in null}, dict(null))}
    return jax.tree.map(replace, cond, null)


@dataclasses.dataclass(frozen=True)
class Denoising(Objective):
    """Denoising score matching: `denoising` for a `Diffusion`.

    It asks of the model `process(params)`, `parametrization` and `apply(params, x, time, cond, key)`. It reports `mse`,
    the squared error of the output.

    Attributes:
      times: the noise levels that a batch is trained on.
      weighting: how much each noise level counts; None for the plain squared error of the network's output.
      learned_weighting: whether the loss at each noise level is divided by its expected value there, which is learned
        (EDM2).
    """

    times: TimesChoice = choose(stratified)
    weighting: WeightingChoice | None = None
    learned_weighting: bool = False

    @property
    def couples(self) -> bool:
        return samplers.learns(self.times)

    def init(self, model: Any, key: Key[Array, ""]) -> PyTree:
        return {"log_variance": learned_weights.init()} if self.learned_weighting else {}

    def extra(self, model: Any) -> PyTree:
        return samplers.mutable(self.times(process=model.process({})))

    def make(self, model: Any) -> Function:
        good = hasattr(model, "parametrization") and hasattr(model, "apply")
        checks.require(good, "model", type(model).__name__, "Diffusion with this objective")
        first, parametrization = model.process({}), model.parametrization
        with at("times"):
            sampler = self.times(process=first)
        with at("weighting"):
            weighting = None if self.weighting is None else self.weighting()
        scale = learned_weights.scale_of(first, parametrization) if self.learned_weighting else 1.0

        def learned(params: PyTree, time: Any) -> Any:
            return learned_weights.log_variance(params["objective"]["log_variance"], time, scale)

        def objective(params: PyTree, key: Any, batch: Mapping[str, PyTree], context: Context) -> Loss:
            chosen = samplers.current(sampler, context.extra)
            apply = Recorded(model.apply)
            losses, metrics = denoising(
                model.process(params),
                parametrization,
                apply,
                weighting=weighting,
                times=chosen,
                log_variance=learned if self.learned_weighting else None,
                with_key=True,
            )(params, key, batch)
            updates = samplers.recorded(chosen, metrics["t"], losses / metrics["time_weight"])
            return Loss(losses, {"mse": metrics["mse"]}, apply.updates(updates))

        return objective
