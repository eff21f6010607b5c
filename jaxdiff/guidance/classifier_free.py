"""Classifier-free guidance."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from jaxdiff import trees
from jaxdiff.checks import message, require
from jaxdiff.denoisers import Denoiser, is_consistent
from jaxdiff.guidance.guidance import Asked, Guidance
from jaxdiff.parametrizations import Estimate
from jaxdiff.processes import Process, same_process


@trees.register
@dataclasses.dataclass(frozen=True)
class ClassifierFreeDenoiser:
    """The denoiser of classifier-free guidance. `classifier_free` makes it."""

    conditional: Denoiser
    unconditional: Denoiser
    scale: Float[Array, "*batch"]

    @property
    def process(self) -> Process:
        """The process of both denoisers."""
        return self.conditional.process

    @property
    def consistent(self) -> bool:
        """Whether the pairs of both denoisers are consistent."""
        return is_consistent(self.conditional) and is_consistent(self.unconditional)

    def __call__(self, x: PyTree, t: Any, s: Any = None) -> Estimate:
        if self.scale.ndim:
            batch = (trees.batch_size(x),)
            require(self.scale.shape == batch, "scale.shape", self.scale.shape, f"() and {batch}, as x")
        times = (t,) if s is None else (t, s)  # a denoiser that is no flow map may lack s
        pairs = zip(self.unconditional(x, *times), self.conditional(x, *times), strict=True)
        return Estimate(*(trees.lincomb((1 - self.scale, self.scale), pair) for pair in pairs))


def classifier_free(conditional: Denoiser, unconditional: Denoiser, scale: Any) -> ClassifierFreeDenoiser:
    """Classifier-free guidance: the estimate `u + scale (c - u)` of an unconditional u and a conditional estimate c.

    A scale of 1 is no guidance; a scale of 0 is unconditional. x0 and eps are extrapolated alike. Ho & Salimans 2022
    (arXiv 2207.12598), equation 6, with `w = scale - 1`. Each call evaluates both denoisers.

    Args:
      conditional, unconditional: denoisers of the same process, with and without the condition.
      scale: a number, or `[batch]`, one number per example. It is a leaf, so another scale needs no new compilation.

    Raises:
      ValueError: the denoisers have different processes (numbers that JAX is tracing are not compared), or `scale` has
        more than one axis. When the result is called: the length of `scale` is not that of the batch.
    """
    if not same_process(conditional.process, unconditional.process):
        allowed = f"the process of conditional, {conditional.process}"
        raise ValueError(message("unconditional.process", unconditional.process, allowed))
    scale = jnp.asarray(scale, float)
    require(scale.ndim <= 1, "scale.shape", scale.shape, "() and [batch]")
    return ClassifierFreeDenoiser(conditional, unconditional, scale)


@dataclasses.dataclass(frozen=True)
class ClassifierFree(Guidance):
    """Classifier-free guidance: `classifier_free` towards everything that is asked for.

    Attributes:
      scale: 1 for no guidance, 0 for unconditional samples.
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        require(math.isfinite(self.scale), "scale", self.scale, "finite numbers")

    def __call__(self, denoiser_of: Callable[[PyTree], Denoiser], asked: Asked, frozen: Any = None) -> Denoiser:
        if self.scale == 1:
            return denoiser_of(asked.cond)
        require(asked.cond, "scale", self.scale, "1, since the model has no conditions")
        return classifier_free(denoiser_of(asked.cond), denoiser_of(asked.null), self.scale)
