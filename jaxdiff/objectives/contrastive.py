"""Contrastive learning: the vectors of what belongs together are made alike."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree

from jaxdiff import checks, trees
from jaxdiff.objectives.objective import Context, Function, Loss, Objective


def info_nce(
    a: Float[Array, "batch features"], b: Float[Array, "batch features"], scale: Any
) -> Float[Array, " batch"]:
    """The symmetric cross-entropy of finding the partner of each vector among all vectors of the other kind.

    Oord et al. 2018 (arXiv 1807.03748), equation 4; Radford et al. 2021 (CLIP, arXiv 2103.00020), figure 3.

    Args:
      a, b: vectors of length 1; `a[i]` belongs to `b[i]`.
      scale: the factor of the cosines, the inverse of the temperature.
    """
    logits = scale * a @ b.T
    along, across = (jnp.diagonal(jax.nn.log_softmax(logits, axis)) for axis in (0, 1))
    return -(along + across) / 2


@dataclasses.dataclass(frozen=True)
class Contrastive(Objective):
    """CLIP's loss of pairs of pictures and texts, with a learned temperature.

    It asks of the model `of_pictures` and `of_texts`, and reports `accuracy`, the share of pictures whose nearest text
    in the batch is their own.

    Attributes:
      temperature: the temperature at first.
    """

    temperature: float = 0.07

    def __post_init__(self) -> None:
        checks.positive("temperature", self.temperature)

    @property
    def couples(self) -> bool:
        return True

    def init(self, model: Any, key: Key[Array, ""]) -> PyTree:
        return {"log_scale": jnp.asarray(-math.log(self.temperature), jnp.float32)}

    def make(self, model: Any) -> Function:
        good = hasattr(model, "of_pictures") and hasattr(model, "of_texts")
        checks.require(good, "model", type(model).__name__, "Embedding with this objective")

        def objective(params: PyTree, key: Any, batch: Mapping[str, Any], context: Context) -> Loss:
            random = trees.batch_key(key, trees.batch_size(batch["x"]))
            pictures = model.of_pictures(params, batch["x"], random.each(0))
            texts = model.of_texts(params, batch["ids"])
            # CLIP limits the factor to 100, so that training stays stable.
            scale = jnp.minimum(jnp.exp(params["objective"]["log_scale"]), 100.0)
            right = jnp.argmax(pictures @ texts.T, axis=1) == jnp.arange(len(pictures))
            return Loss(
                info_nce(pictures, texts, scale), {"accuracy": right.astype(jnp.float32), "temperature": 1 / scale}
            )

        return objective
