"""Classifier-free guidance."""

import dataclasses
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from jaxdiff import trees
from jaxdiff.denoisers import Denoiser
from jaxdiff.parametrizations import Estimate
from jaxdiff.processes import Process, same_process


@trees.register
@dataclasses.dataclass(frozen=True)
class ClassifierFree:
    """See `classifier_free`."""

    cond: Denoiser
    uncond: Denoiser
    scale: Float[Array, "*batch"]

    @property
    def process(self) -> Process:
        return self.cond.process

    def __call__(self, x: PyTree, t: Any) -> Estimate:
        if self.scale.ndim and self.scale.shape != (trees.batch_size(x),):
            raise ValueError(f"scale has shape {self.scale.shape}; allowed are () and ({trees.batch_size(x)},), as x")
        pairs = zip(self.uncond(x, t), self.cond(x, t), strict=True)
        return Estimate(*(trees.lincomb((1 - self.scale, self.scale), pair) for pair in pairs))


def classifier_free(cond: Denoiser, uncond: Denoiser, scale: Any) -> ClassifierFree:
    """`uncond + scale (cond - uncond)`, in x0 and eps alike: 1 is no guidance, 0 is unconditional.

    Ho & Salimans 2022 (arXiv 2207.12598), equation 6, whose w is `scale - 1`. Two evaluations of the network a step.

    Args:
      cond, uncond: denoisers of one process, with and without the condition.
      scale: a number, or `[batch]`, one per example. It is a leaf: another scale compiles nothing.

    Raises:
      ValueError: denoisers of different processes (numbers that are being traced are not compared), or a scale of
        more than one axis; when called, a scale of another length than the batch.
    """
    if not same_process(cond.process, uncond.process):
        raise ValueError(f"cond is for {cond.process}, uncond for {uncond.process}; allowed is one process")
    scale = jnp.asarray(scale, float)
    if scale.ndim > 1:
        raise ValueError(f"scale has shape {scale.shape}; allowed are () and [batch]")
    return ClassifierFree(cond, uncond, scale)
