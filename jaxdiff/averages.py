"""Exponential moving averages of parameters.

A rule is a function `step -> decay`: the weight of the old average in the update after training step number `step`. The
first step has number 1. `step` may be traced.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from jaxdiff.checks import positive, require

Rule = Callable[[Any], Any]


def constant(decay: float) -> Rule:
    """The classic rule `min(decay, (1 + step)/(10 + step))`. Its warm-up soon forgets the initial parameters.

    Raises:
      ValueError: `decay` is outside [0, 1).
    """
    require(0 <= decay < 1, "decay", decay, "numbers from 0 to below 1")
    return lambda step: jnp.minimum(decay, (1 + step) / (10 + step))


def half_life(examples: float, batch_size: int, ramp: float | None = 0.05) -> Rule:
    """The rule `2^(-batch_size / h)`. The half-life h is counted in examples, so it does not depend on the batch size.

    `h = min(examples, ramp * examples seen so far)`. Karras et al. 2022 (arXiv 2206.00364), appendix F.2, use 0.5
    million examples and a ramp of 0.05 for CIFAR-10.

    Args:
      examples: the half-life, in training examples.
      batch_size: the number of examples per step.
      ramp: the largest half-life, as a fraction of the examples seen so far. None means no such limit.

    Raises:
      ValueError: an argument is not a finite positive number.
    """
    for name, value in (("examples", examples), ("batch_size", batch_size), ("ramp", 1.0 if ramp is None else ramp)):
        positive(name, value)

    def decay(step: Any) -> Any:
        length = examples if ramp is None else jnp.minimum(examples, ramp * batch_size * step)
        return 0.5 ** (batch_size / length)

    return decay


def power(relative_width: float) -> Rule:
    """The rule `(1 - 1/step)^(gamma + 1)`. The weights of past parameters grow as a power of training time.

    After step n the parameters of step k have the weight

        (k^(gamma+1) - (k-1)^(gamma+1)) / n^(gamma+1)

    The initial parameters have no weight after the first step. Karras et al. 2024 (EDM2, arXiv 2312.02696), section
    3.1.

    Args:
      relative_width: the standard deviation of the weights over time, divided by the training time so far. EDM2 uses
        0.05 and 0.1.

    Raises:
      ValueError: see `gamma_of_width`.
    """
    exponent = gamma_of_width(relative_width) + 1
    # Computed as a power of 1 - 1/step, 1 - decay would have no digits left in float32 after some 100,000 steps.
    return lambda step: jnp.exp(exponent * jnp.log1p(-1 / step))


def power_name(relative_width: float) -> str:
    """The name of the average of this width, in a train state and in a run."""
    return f"power_{float(relative_width)}"


def gamma_of_width(relative_width: float) -> float:
    """The exponent gamma for which weights proportional to `time^gamma` have this relative standard deviation.

    The weights are the distribution Beta(gamma + 1, 1), whose standard deviation is

        relative_width = (gamma + 1)^(1/2) (gamma + 2)^(-1) (gamma + 3)^(-1/2)

    It falls from 1/sqrt(12) at gamma = 0, where all steps have the same weight, to 0 as gamma grows. The equation is
    solved in float64: with `s = relative_width^-2` and `v = gamma + 7/3` it is

        v^3 - (s + 1/3) v + 4 s/3 + 2/27 = 0

    Viete's cosine formula gives the largest root, which is the only one with a positive gamma.

    Raises:
      ValueError: `relative_width` is below 1e-9, where it is an average of the last step alone, or not below
        1/sqrt(12).
    """
    good = 1e-9 <= relative_width < 12**-0.5
    require(good, "relative_width", relative_width, "numbers from 1e-9 to below 1/sqrt(12) = 0.2886...")
    h = math.hypot(1 / relative_width, 3**-0.5)  # sqrt(s + 1/3)
    angle = math.acos(-math.sqrt(12) / h * (1 - 5 / 18 / h / h))
    return max(2 / math.sqrt(3) * h * math.cos(angle / 3) - 7 / 3, 0.0)


def update(average: PyTree, params: PyTree, decay: Any) -> PyTree:
    """The new average `decay * average + (1 - decay) * params`, leaf by leaf."""
    return jax.tree.map(lambda a, p: a + (1 - decay) * (p - a), average, params)
