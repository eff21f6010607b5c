"""Rewards: functions `x0 -> [batch]` of data in the space of the model, for `RewardGuidance`."""

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from jaxdiff import trees

__all__ = ["mean"]


def mean(x0: PyTree) -> jax.Array:
    """The mean of all numbers of an example, such as the brightness of a picture. A negative scale makes it small."""
    return jnp.mean(trees.flat(x0), axis=1)
