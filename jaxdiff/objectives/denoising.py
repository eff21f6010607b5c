"""Denoising score matching: corrupt the data, let the network predict the target, and weight its error."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PyTree

from jaxdiff import checks, parametrizations, processes, trees
from jaxdiff.objectives.times import TimeSampler, uniform
from jaxdiff.objectives.weightings import Weighting
from jaxdiff.parametrizations import Estimate, Parametrization
from jaxdiff.processes import Process

Losses = tuple[Float[Array, " batch"], dict[str, Float[Array, " batch"]]]
Objective = Callable[[PyTree, Key[Array, ""] | trees.BatchKey, Mapping[str, PyTree]], Losses]


def denoising(
    process: Process,
    parametrization: Parametrization,
    apply: Callable[..., PyTree],
    *,
    weighting: Weighting | None = None,
    times: TimeSampler = uniform,
    null: PyTree = None,
    dropout: float = 0.0,
    log_variance: Callable[[PyTree, Float[Array, " batch"]], Float[Array, " batch"]] | None = None,
    with_key: bool = False,
) -> Objective:
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
      times: see `objectives.times`.
      null: the value that replaces a dropped `batch["cond"]`: a pytree of the same structure, with leaves that are
        scalars or `[*event]`. If the condition is a mapping, only the entries that `null` has are dropped.
      dropout: the probability that an example loses its condition, for classifier-free guidance: Ho & Salimans 2022
        (arXiv 2207.12598), algorithm 1.
      log_variance: a learned function `u(params, time)`, where `time` is the network's time input. The loss becomes
        `loss/e^u + u`. Karras et al. 2024 (EDM2, arXiv 2312.02696).
      with_key: whether to call `apply(..., key=keys)`, with one key per example, for networks that draw random
        numbers in training.

    Returns:
      A function `(params, key, batch) -> (losses, metrics)`. `batch["x"]` has leaves `[batch, *event]`. If there is a
      `batch["cond"]`, it is given to the network. The key is one key; or a `trees.BatchKey` if `batch` is a part of a
      larger batch: an example then has the loss that it has in the larger batch. Losses and metrics are `[batch]` each.
      The metrics are `t`, `time_weight`, and `mse`, the mean squared error of the output.

    Raises:
      ValueError: the parametrization does not fit the process, or `dropout` is not from 0 to 1 or has no `null`. When
        called: `dropout` without `batch["cond"]`, or a network whose output does not have the shapes of `batch["x"]`.
    """
    parametrizations.check(process, parametrization)
    checks.fraction("dropout", dropout)
    allowed = "values for a dropped condition where dropout is above 0"
    checks.require(not dropout or null is not None, "null", null, allowed)

    def objective(params: PyTree, key: Key[Array, ""] | trees.BatchKey, batch: Mapping[str, PyTree]) -> Losses:
        x0, cond = batch["x"], batch.get("cond")
        checks.require(not dropout or cond is not None, "batch['cond']", cond, "conditions where dropout is above 0")
        random = trees.batch_key(key, trees.batch_size(x0))
        # Times may depend on each other (stratified), so they are drawn for the whole batch, even for a part of it.
        t, time_weight = (
            drawn[random.index] for drawn in times(jax.random.fold_in(random.key, 0), process, random.size)
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
