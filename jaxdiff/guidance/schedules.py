"""Schedules: scales of guidance that depend on time.

A scale is a number, one number per example, or a schedule: a function `(process, t) -> scale`. Schedules run from the
scale `first` at `t_max`, where sampling begins, to the scale `last` at `t_min`. They are settings, which JSON can hold,
and pytrees of numbers, so that another number compiles nothing. Wang et al. 2024 (arXiv 2404.13040) compare schedules.
A schedule of your own is any function `(process, t) -> scale`, computed with `jax.numpy`. If it has numbers that shall
be traced, make it a pytree.
"""

import dataclasses
import math
from typing import Any

import jax.numpy as jnp
from jaxtyping import PyTree

from jaxdiff import trees
from jaxdiff.checks import require
from jaxdiff.components import Component
from jaxdiff.jitted import as_pytree
from jaxdiff.processes import Process

__all__ = ["Cosine", "Linear", "Power", "Schedule"]


class Schedule(Component):
    """The base of schedules."""

    home = "jaxdiff.guidance.schedules"

    def __call__(self, process: Process, t: Any) -> Any:
        """The scale at time t, a scalar or `[batch]`, as t."""
        raise NotImplementedError

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            finite(field.name, getattr(self, field.name))


@dataclasses.dataclass(frozen=True)
class Between(Schedule):
    """The base of schedules between two scales: `last + (first - last) share`.

    Attributes:
      first: the scale at `t_max`, where sampling begins.
      last: the scale at `t_min`.
    """

    first: float = 1.0
    last: float = 1.0

    def share(self, process: Process, t: Any) -> Any:
        """The share of `first` in the scale."""
        raise NotImplementedError

    def __call__(self, process: Process, t: Any) -> Any:
        return self.last + (self.first - self.last) * self.share(process, t)


@trees.register
@dataclasses.dataclass(frozen=True)
class Linear(Between):
    """A scale that changes linearly in time: `last + (first - last) u`, where u runs from 1 at `t_max` to 0 at `t_min`.

    The attributes are those of `Between`.
    """

    def share(self, process: Process, t: Any) -> Any:
        """The fraction of time."""
        return fraction_of_time(process, t)


@trees.register
@dataclasses.dataclass(frozen=True)
class Cosine(Between):
    """A scale that changes as half a wave: `last + (first - last) (1 - cos(pi u))/2`, with u of `Linear`.

    The attributes are those of `Between`.
    """

    def share(self, process: Process, t: Any) -> Any:
        """Half a wave of the fraction of time."""
        return (1 - jnp.cos(jnp.pi * fraction_of_time(process, t))) / 2


@trees.register
@dataclasses.dataclass(frozen=True)
class Power(Between):
    """A power of the share of the noise: `last + (first - last) (sigma/sqrt(alpha^2 + sigma^2))^power`.

    For variance-preserving processes the share of the noise is sigma. A negative power grows towards the data.

    Attributes:
      first: the scale where x is noise alone.
      last: the scale where the power vanishes: with a positive power, the scale without noise.
      power: the exponent.
    """

    power: float = 1.0

    def share(self, process: Process, t: Any) -> Any:
        """The power of the share of the noise."""
        alpha, sigma = process.alpha(t), process.sigma(t)
        return (sigma / jnp.sqrt(alpha**2 + sigma**2)) ** self.power


def fraction_of_time(process: Process, t: Any) -> Any:
    """Where t lies between `t_min` (0) and `t_max` (1)."""
    return jnp.clip((t - process.t_min) / (process.t_max - process.t_min), 0, 1)


def finite(name: str, value: Any) -> None:
    """Raises a ValueError unless a setting is a schedule or a finite number. A value that JAX traces is not checked."""
    good = callable(value) or trees.traced(value) or math.isfinite(value)
    require(good, name, value, "finite numbers" if name != "scale" else "finite numbers and schedules")


def as_scale(scale: Any) -> Any:
    """A scale as a pytree.

    Args:
      scale: a number, `[batch]` or a function `(process, t) -> scale`.

    Raises:
      ValueError: the scale has more than one axis.
    """
    if callable(scale):
        return as_pytree(scale)
    scale = jnp.asarray(scale, float)
    require(scale.ndim <= 1, "scale.shape", scale.shape, "() and [batch]")
    return scale


def scale_at(scale: Any, process: Process, x: PyTree, t: Any) -> Any:
    """The scale at time t: a scalar, or one number per example of x.

    Raises:
      ValueError: the length of the scale is not that of the batch.
    """
    scale = jnp.asarray(scale(process, t) if callable(scale) else scale)
    if scale.ndim:
        batch = (trees.batch_size(x),)
        require(scale.shape == batch, "scale.shape", scale.shape, f"() and {batch}, as x")
    return scale
