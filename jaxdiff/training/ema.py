"""Exponential moving averages of the parameters: rules `step -> decay`, and the update.

A rule gives the weight that the old average keeps at the step that ends as number `step` (1, 2, ...), a traced integer.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

Rule = Callable[[Any], Any]


def constant(decay: float) -> Rule:
    """`min(decay, (1 + step)/(10 + step))`: classic, with the warm-up that lets go of the initial parameters.

    Raises:
      ValueError: `decay` outside of [0, 1).
    """
    if not 0 <= decay < 1:
        raise ValueError(f"decay = {decay}; allowed are numbers from 0 to below 1")
    return lambda step: jnp.minimum(decay, (1 + step) / (10 + step))


def half_life(images: float, batch_size: int, ramp: float | None = 0.05) -> Rule:
    """`2^(-batch_size / h)`, with a half-life h in images that does not depend on the batch size.

    Karras et al. 2022 (arXiv 2206.00364), appendix F.2: `h = min(images, ramp * images seen)`, 0.5 million images with
    a ramp of 0.05 for CIFAR-10.

    Args:
      images: the half-life, in images seen.
      batch_size: images per step.
      ramp: the half-life as a fraction of the images seen so far at most; None for no ramp.

    Raises:
      ValueError: a number that is not positive.
    """
    for name, value in (("images", images), ("batch_size", batch_size), ("ramp", 1.0 if ramp is None else ramp)):
        if not value > 0:
            raise ValueError(f"{name} = {value}; allowed are positive numbers")

    def decay(step: Any) -> Any:
        length = images if ramp is None else jnp.minimum(images, ramp * batch_size * step)
        return 0.5 ** (batch_size / length)

    return decay


def update(average: PyTree, params: PyTree, decay: Any) -> PyTree:
    """`decay * average + (1 - decay) * params`, leaf by leaf."""
    return jax.tree.map(lambda a, p: a + (1 - decay) * (p - a), average, params)
