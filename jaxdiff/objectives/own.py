"""Objectives of one's own: a function as an objective."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from jaxtyping import PyTree

from jaxdiff import trees
from jaxdiff.checks import require, takes
from jaxdiff.components import Opaque
from jaxdiff.objectives.objective import Context, Function, Loss, Objective


def from_function(loss: Callable[..., Any], *, couples: bool = False) -> "OwnObjective":
    """A loss of your own as an objective:

        def loss(model, params, key, batch):
            t_key, noise_key = jax.random.split(key)
            x = batch["x"]
            t = jax.random.uniform(t_key, x.shape[:1])
            noise = jax.random.normal(noise_key, x.shape)
            x_t = jd.corrupt(model.process(params), x, noise, t)
            return jnp.mean((model.apply(params, x_t, t) - noise) ** 2, axis=1)

    Args:
      loss: a pure function `(model, params, key, batch)`, or `(model, params, key, batch, context)`. `model` is the
        bound model: for a `Diffusion` it has `apply(params, x, time, cond=None, key=None)`, `process(params)`,
        `parametrization` and `denoiser(params, cond)`. `batch` is in the space of the model: for a `Diffusion` it has
        `x`, the encoded conditions `cond` if there are any, and the raw `fields`. `key` is one JAX key; a draw of shape
        `[batch, ...]` gives each example its own numbers on any number of devices (`trees.BatchKey.ordinary`).
        `context` is described in `objectives.objective`. The function returns one loss per example, `[batch]`, or a
        scalar; or a pair `(losses, metrics)`; or a `Loss`.
      couples: whether the loss of an example depends on the other examples of the batch.

    Raises:
      TypeError: `loss` is not callable.
    """
    require(callable(loss), "loss", loss, "functions (model, params, key, batch) -> losses", TypeError)
    return OwnObjective(loss, couples)


@dataclasses.dataclass(frozen=True)
class OwnObjective(Opaque, Objective):
    """An objective that is a function of the user's own; `from_function` makes it.

    Attributes:
      loss: the function; None for one that has to be given again.
      coupled: whether the examples of a batch depend on each other.
    """

    loss: Callable[..., Any] | None = None
    coupled: bool = False

    @property
    def held(self) -> Any:
        return self.loss

    @property
    def couples(self) -> bool:
        return self.coupled

    def make(self, model: Any) -> Function:
        loss = self.loss
        if loss is None:
            raise ValueError("is a function of the user's own, which has to be given again")
        with_context = takes(loss, 5)

        def objective(params: PyTree, key: Any, batch: Mapping[str, Any], context: Context) -> Loss:
            random = trees.batch_key(key, trees.batch_size(batch["x"]))
            found = loss(model, params, random.ordinary(), batch, *((context,) if with_context else ()))
            if isinstance(found, Loss):
                return found
            return Loss(*found) if isinstance(found, tuple) else Loss(found, {})

        return objective
