"""Reconstruction by an autoencoder, and the statistics of its latents."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import jax.numpy as jnp
from jaxtyping import Array, PyTree

from jaxdiff import checks, trees
from jaxdiff.objectives.objective import Context, Function, Loss, Objective


@dataclasses.dataclass(frozen=True)
class Reconstruction(Objective):
    """The error of decoded latents, and a penalty that keeps the latents small.

    It asks of the model `encode`, `decode` and `latent`, the shape of the latents. It measures the mean and the mean
    square of each channel of the latents in a moving average, and reports `error` and `latent_square`.

    Attributes:
      error: the mean square of the error, or its mean magnitude.
      penalty: the weight of the mean square of the latents.
      memory: the number of steps over which the statistics of the latents are averaged; at most a tenth of the steps
        so far.
    """

    error: Literal["square", "magnitude"] = "square"
    penalty: float = 1e-4
    memory: int = 100

    def __post_init__(self) -> None:
        checks.not_negative("penalty", self.penalty)
        checks.integer("memory", self.memory)

    def extra(self, model: Any) -> PyTree:
        return latent_statistics(model)

    def make(self, model: Any) -> Function:
        good = hasattr(model, "encode") and hasattr(model, "decode")
        checks.require(good, "model", type(model).__name__, "Autoencoder with this objective")

        def objective(params: PyTree, key: Any, batch: Mapping[str, Any], context: Context) -> Loss:
            x = batch["x"]
            z = model.encode(params, x)
            difference = model.decode(params, z) - x
            if self.error == "square":
                error = trees.mean_square(difference)
            else:
                error = jnp.mean(jnp.abs(difference), axis=tuple(range(1, x.ndim)))
            square = trees.mean_square(z)
            return Loss(
                error + self.penalty * square,
                {"error": error, "latent_square": square},
                moving_statistics(z, context, self.memory),
            )

        return objective


def latent_statistics(model: Any) -> dict[str, Array]:
    """The first mean and mean square of each channel of the latents of a bound autoencoder."""
    channels = model.latent[-1]
    return {"mean": jnp.zeros(channels), "square": jnp.ones(channels)}


def moving_statistics(z: Array, context: Context, memory: int) -> dict[str, Array]:
    """The moving averages of mean and mean square after a batch of latents, over `memory` steps.

    The first steps change the latents most, and are soon forgotten: the averages cover at most a tenth of the steps.
    """
    axes = tuple(range(z.ndim - 1))
    weight = 1 / jnp.minimum(1 + context.step / 10, memory)
    measured = {"mean": jnp.mean(z, axes), "square": jnp.mean(z**2, axes)}
    return {name: old + weight * (measured[name] - old) for name, old in context.extra.items()}
