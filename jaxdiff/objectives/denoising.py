"""Denoising score matching: corrupt data, ask the network what it was made of, weigh the error."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PyTree

from jaxdiff import parametrizations, processes, trees
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
    """The denoising loss of a network, one number per example:

        x_t = alpha x0 + sigma eps      F = p x0 + q eps
        loss = w(t) mean|(F_hat - F)/det|^2 = w(t) mean|(x0_hat - x0)/sigma|^2

    the mean over the coordinates of an example. What the network predicts, which errors count (`weighting`) and which
    noise levels are drawn (`times`) are independent choices. Vincent 2011; Ho et al. 2020 (arXiv 2006.11239), equation
    14; Kingma & Gao 2023 (arXiv 2303.00848).

    Args:
      process, parametrization, apply: as for `denoisers.from_network`.
      weighting: see `objectives.weightings`; None is the plain squared error of the network's own output.
      times: see `objectives.times`.
      null: what `batch["cond"]` is replaced by when it is dropped: a pytree of its structure, of scalars or `[*event]`;
        of a mapping, those entries that are.
      dropout: how often, per example. Classifier-free guidance: Ho & Salimans 2022 (arXiv 2207.12598), algorithm 1.
      log_variance: a learned `u(params, time)`: the loss becomes `loss/e^u + u`. Karras et al. 2024 (EDM2, arXiv
        2312.02696).
      with_key: call `apply(..., key=keys)`, one key per example, for networks that draw random numbers when trained.

    Returns: a function `(params, key, batch) -> (losses, metrics)`. `batch["x"]` has leaves `[batch, *event]`;
      `batch["cond"]`, if it is there, goes to the network. The metrics are `[batch]` each: `t`, `time_weight` and
      `mse`, the squared error of the output. `key` is one key, or a `trees.BatchKey` where the batch at hand is a part
      of another: an example has the same loss in both.

    Raises:
      ValueError: the parametrization does not fit the process, `dropout` outside of [0, 1] or without `null`; when
        called, `dropout` without `batch["cond"]`, or an output unlike `batch["x"]`.
    """
    parametrizations.check(process, parametrization)
    if not 0 <= dropout <= 1:
        raise ValueError(f"dropout = {dropout}; allowed are numbers from 0 to 1")
    if dropout and null is None:
        raise ValueError(f"dropout = {dropout} needs null, what a dropped condition is replaced by")

    def objective(params: PyTree, key: Key[Array, ""] | trees.BatchKey, batch: Mapping[str, PyTree]) -> Losses:
        x0, cond = batch["x"], batch.get("cond")
        if dropout and cond is None:
            raise ValueError(f"dropout = {dropout} needs batch['cond'], of which there is none")
        random = trees.batch_key(key, trees.batch_size(x0))
        # Times may depend on each other (stratified): they are drawn for the whole batch, wherever the rest of it is.
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
    """`cond` with each example replaced by `null` with probability `rate`.

    Args:
      key: one key, or one key per example.
      cond: leaves `[batch, *event]`.
      null: the same structure, leaves `[*event]` or scalars. Of a mapping, entries that `null` lacks are never dropped.

    Raises:
      ValueError: a leaf of `null` that fits no single example.
    """
    if key.ndim:
        dropped = jax.vmap(lambda key: jax.random.bernoulli(key, rate))(key)
    else:
        dropped = jax.random.bernoulli(key, rate, (trees.batch_size(cond),))

    def replace(leaf: Array, null: Array) -> Array:
        if np.shape(null) not in ((), leaf.shape[1:]):
            raise ValueError(f"null has shape {np.shape(null)}; allowed are () and {leaf.shape[1:]}, as one of cond")
        return jnp.where(trees.expand(dropped, leaf), jnp.asarray(null, leaf.dtype), leaf)

    cond = jax.tree.map(jnp.asarray, cond)
    if isinstance(cond, Mapping) and isinstance(null, Mapping):
        return {**cond, **jax.tree.map(replace, {name: cond[name] for name in null}, dict(null))}
    return jax.tree.map(replace, cond, null)
