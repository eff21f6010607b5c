"""Exponential moving averages of the parameters: rules `step -> decay`, and the update.

A rule gives the weight that the old average keeps at the step that ends as number `step` (1, 2, ...), a traced integer.
"""

import math
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


def power(relative_width: float) -> Rule:
    """`(1 - 1/step)^(gamma + 1)`: weights that grow as a power of time, whatever the length of training.

    The average after step n gives the parameters of step k the weight `(k^(gamma+1) - (k-1)^(gamma+1)) / n^(gamma+1)`,
    so it lets go of the initial parameters at once. Karras et al. 2024 (EDM2, arXiv 2312.02696), section 3.1.

    Args:
      relative_width: the standard deviation of the weights over time, as a part of the training so far: 0.05 and 0.1 in
        EDM2.

    Raises:
      ValueError: as `gamma_of_width`.
    """
    exponent = gamma_of_width(relative_width) + 1
    # As a power of 1 - 1/step, 1 - decay would lose its digits in float32 after some hundred thousand steps.
    return lambda step: jnp.exp(exponent * jnp.log1p(-1 / step))


def power_name(relative_width: float) -> str:
    """What the average of this width is called in a train state and in a run."""
    return f"power_{float(relative_width)}"


def gamma_of_width(relative_width: float) -> float:
    """The gamma of which weights that grow as `time^gamma` have this relative standard deviation, in float64:

        relative_width = (gamma + 1)^(1/2) (gamma + 2)^(-1) (gamma + 3)^(-1/2)

    the standard deviation of Beta(gamma + 1, 1). It falls from 1/sqrt(12) at gamma = 0, where all steps weigh the same,
    to 0 as gamma grows. (For gamma from -1 to 0 weights fall with time, and one width has two gammas.) With
    `s = relative_width^-2` and `v = gamma + 7/3` the equation is `v^3 - (s + 1/3) v + 4 s/3 + 2/27 = 0`, whose largest
    root Viete's cosine gives; it is the only positive gamma.

    Raises:
      ValueError: a width outside of (0, 1/sqrt(12)).
    """
    if not 0 < relative_width < 12**-0.5:
        raise ValueError(f"relative_width = {relative_width}; allowed are numbers between 0 and 1/sqrt(12) = 0.2886...")
    h = math.hypot(1 / relative_width, 3**-0.5)  # sqrt(s + 1/3), which s itself might overflow
    angle = math.acos(-math.sqrt(12) / h * (1 - 5 / 18 / h / h))
    return max(2 / math.sqrt(3) * h * math.cos(angle / 3) - 7 / 3, 0.0)


def update(average: PyTree, params: PyTree, decay: Any) -> PyTree:
    """`decay * average + (1 - decay) * params`, leaf by leaf."""
    return jax.tree.map(lambda a, p: a + (1 - decay) * (p - a), average, params)
