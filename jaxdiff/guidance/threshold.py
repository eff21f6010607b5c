"""Thresholding: estimates of the data stay within the range of the data."""

import dataclasses
from collections.abc import Callable
from typing import Any, Self

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from jaxdiff import trees
from jaxdiff.checks import positive, require
from jaxdiff.denoisers import Denoiser, is_consistent
from jaxdiff.guidance.around import Around
from jaxdiff.guidance.classifier_free import ClassifierFree
from jaxdiff.guidance.estimates import with_x0
from jaxdiff.guidance.guidance import Asked
from jaxdiff.guidance.guided import GuidedDenoiser, guided
from jaxdiff.parametrizations import Estimate
from jaxdiff.processes import Process


@trees.register
@dataclasses.dataclass(frozen=True)
class Threshold:
    """The rule of thresholding: other data, and the noise that follows from them.

    Attributes:
      limited: the data within their range, `x0 -> x0`.
      follows: whether eps follows from x0. The noise of a pair that is not consistent stays.
    """

    limited: Callable[[PyTree], PyTree]
    follows: bool = dataclasses.field(metadata={"static": True})

    def __call__(self, process: Process, x: PyTree, t: Any, estimate: Estimate) -> Estimate:
        """The estimate with other data."""
        x0 = self.limited(estimate.x0)
        return with_x0(process, estimate, x0, t) if self.follows else Estimate(x0, estimate.eps)


@trees.register
@dataclasses.dataclass(frozen=True)
class Clip:
    """The data within `[low, high]`."""

    low: Any
    high: Any

    def __call__(self, x0: PyTree) -> PyTree:
        """Clips."""
        return jax.tree.map(lambda leaf: jnp.clip(leaf, self.low, self.high), x0)


@trees.register
@dataclasses.dataclass(frozen=True)
class Shrink:
    """The data, divided by the percentile of their sizes if it is above the limit."""

    percentile: Any
    limit: Any

    def __call__(self, x0: PyTree) -> PyTree:
        """Clips and divides."""
        size = jnp.quantile(jnp.abs(trees.flat(x0)), self.percentile / 100, axis=1)
        factor = jnp.maximum(size / self.limit, 1.0)

        def shrunk(leaf: Any) -> Any:
            by = trees.expand(factor, leaf)
            return jnp.clip(leaf / by, -self.limit, self.limit)

        return jax.tree.map(shrunk, x0)


def static_threshold(denoiser: Denoiser, low: Any = -1.0, high: Any = 1.0) -> GuidedDenoiser:
    """Static thresholding: the estimate of the data is clipped to `[low, high]`, and eps follows from it.

    Saharia et al. 2022 (Imagen, arXiv 2205.11487), section 2.3.

    Args:
      denoiser: the denoiser, with or without guidance.
      low, high: the range of the data: numbers, which are leaves.
    """
    clip = Clip(jnp.asarray(low, float), jnp.asarray(high, float))
    return guided(Threshold(clip, is_consistent(denoiser)), denoiser=denoiser)


def dynamic_threshold(denoiser: Denoiser, percentile: Any = 99.5, limit: Any = 1.0) -> GuidedDenoiser:
    """Dynamic thresholding: the estimate of the data is clipped to a percentile of its size and divided by it.

        s = max(limit, percentile of |x0|)        x0' = limit/s clip(x0, -s, s)

    Saharia et al. 2022 (Imagen, arXiv 2205.11487), section 2.3. The percentile is that of all numbers of an example,
    with linear interpolation. eps follows from x0'.

    Args:
      denoiser: the denoiser, with or without guidance.
      percentile: from 0 to 100, a leaf; 99.5 in the paper.
      limit: the largest size of the data, a leaf.
    """
    shrink = Shrink(jnp.asarray(percentile, float), jnp.asarray(limit, float))
    return guided(Threshold(shrink, is_consistent(denoiser)), denoiser=denoiser)


@dataclasses.dataclass(frozen=True)
class _Thresholded(Around):
    """The base of thresholding around another rule. It also holds where nothing is asked for."""

    def unasked(self) -> Self:
        return dataclasses.replace(self, rule=self.rule.unasked() or ClassifierFree())


@dataclasses.dataclass(frozen=True)
class StaticThreshold(_Thresholded):
    """Guidance whose estimates of the data are clipped: `static_threshold`.

    Attributes:
      rule: the guidance whose estimates are clipped.
      low: the least value of the data.
      high: the largest value of the data.
    """

    low: float = -1.0
    high: float = 1.0

    def __post_init__(self) -> None:
        require(self.low < self.high, "low", self.low, f"numbers below high = {self.high}")

    def __call__(self, denoiser_of: Callable[[PyTree], Denoiser], asked: Asked, frozen: Any = None) -> Denoiser:
        return static_threshold(self.rule(denoiser_of, asked, frozen), self.low, self.high)


@dataclasses.dataclass(frozen=True)
class DynamicThreshold(_Thresholded):
    """Guidance whose estimates of the data are clipped to a percentile and shrunk: `dynamic_threshold`.

    Attributes:
      rule: the guidance whose estimates are shrunk.
      percentile: the percentile of the sizes of an example's values, from 0 to 100.
      limit: the largest size of the data.
    """

    percentile: float = 99.5
    limit: float = 1.0

    def __post_init__(self) -> None:
        require(0 <= self.percentile <= 100, "percentile", self.percentile, "numbers from 0 to 100")
        positive("limit", self.limit)

    def __call__(self, denoiser_of: Callable[[PyTree], Denoiser], asked: Asked, frozen: Any = None) -> Denoiser:
        return dynamic_threshold(self.rule(denoiser_of, asked, frozen), self.percentile, self.limit)
