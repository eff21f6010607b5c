"""Correctors: Langevin steps at one noise level, for `predictor_corrector`."""

import dataclasses
from typing import Any, Protocol

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PyTree

from jaxdiff import checks, loops, trees
from jaxdiff.denoisers import Denoiser


class Corrector(Protocol):
    """A few steps that do not change the marginal distribution at a time t."""

    @property
    def steps(self) -> int:
        """The number of evaluations of the denoiser."""

    def __call__(self, key: Key[Array, "*batch"], denoiser: Denoiser, x: PyTree, t: Float[Array, ""]) -> PyTree:
        """Returns `x` after all steps. The key is one key, or one key per example."""


@dataclasses.dataclass(frozen=True)
class _LangevinSteps:
    """`x <- x + e score + sqrt(2 e) z`, with `e = 2 (rate sigma)^2` and a rate that a subclass defines.

    Attributes:
      snr: the "signal-to-noise ratio" of a step. It may be traced.
      steps: the number of steps at each noise level. Static.
    """

    snr: Any
    steps: int = dataclasses.field(metadata={"static": True})

    def __post_init__(self) -> None:
        good = trees.traced(self.snr) or np.all((np.asarray(self.snr) >= 0) & np.isfinite(self.snr))
        checks.require(good, "snr", self.snr, "finite numbers of at least 0")
        checks.integer("steps", self.steps, least=0)

    def rate(self, z: PyTree, eps: PyTree) -> Any:
        raise TypeError(f"{type(self).__name__} does not define rate(z, eps)")

    def __call__(self, key: Key[Array, "*batch"], denoiser: Denoiser, x: PyTree, t: Float[Array, ""]) -> PyTree:
        """Returns `x` after all steps. Step j draws its noise with `fold_in(key, j)`."""
        sigma = denoiser.process.sigma(t)

        def step(x: PyTree, j: Int[Array, ""]) -> tuple[PyTree, None]:
            z, eps = trees.normal_like(trees.fold_in(key, j), x), denoiser(x, t).eps
            rate = self.rate(z, eps)
            # The score is -eps/sigma, so e score = -2 rate^2 sigma eps: nothing is divided by sigma.
            moved = trees.lincomb((1.0, -2 * rate**2 * sigma, 2 * rate * sigma), (x, eps, z))
            return trees.cast_like(moved, x), None

        return loops.scan(step, x, jnp.arange(self.steps))[0]


@trees.register
@dataclasses.dataclass(frozen=True)
class Langevin(_LangevinSteps):
    """Langevin steps whose length follows from norms; made by `langevin`."""

    def rate(self, z: PyTree, eps: PyTree) -> Float[Array, " batch"]:
        # Where the score is 0 the published length is infinite. There is nothing to follow then, and x stays.
        ratio = trees.mean_square(z) / jnp.where(trees.mean_square(eps) > 0, trees.mean_square(eps), jnp.inf)
        return self.snr * jnp.sqrt(ratio)


@trees.register
@dataclasses.dataclass(frozen=True)
class AnnealedLangevin(_LangevinSteps):
    """Langevin steps whose length follows from the noise level; made by `annealed_langevin`."""

    def rate(self, z: PyTree, eps: PyTree) -> Any:
        return self.snr


def langevin(snr: float = 0.16, steps: int = 1) -> Langevin:
    """Returns a corrector whose steps have a length set by norms:

        x <- x + e score + sqrt(2 e) z        e = 2 (snr |z|/|score|)^2

    Song et al. 2021 (arXiv 2011.13456), algorithms 4 and 5. Two things differ from the published code. First, the norms
    are those of each example and not means over the batch, so that a sample does not depend on its batch. Second, the
    published factor for variance-preserving processes (`1 - beta_i` of a chain of 1,000 steps, between 0.98 and 1) is 1
    here, as for the other processes. No chain is needed, and `sub_vp` works too.

    The length of a step varies with `x` and `z`. The marginal is therefore kept only to about one part in the number of
    coordinates. This is good enough for images. For data of a few coordinates, use `annealed_langevin`.

    Args:
      snr: the length of the move along the score relative to the length of the noise; a number, which may be traced.
        The published value for CIFAR-10 with the VE process is 0.16.
      steps: the number of steps at each noise level. Static.

    Raises:
      ValueError: `snr` is negative or not finite, or `steps` is not an integer of at least 0.
    """
    return Langevin(snr, steps)


def annealed_langevin(snr: float = 0.16, steps: int = 1) -> AnnealedLangevin:
    """Returns a corrector whose steps have a length set by the noise level:

        x <- x + e score + sqrt(2 e) z        e = 2 (snr sigma)^2

    Song & Ermon 2019 (arXiv 1907.05600), algorithm 1, in the form of Song et al. 2021 (arXiv 2011.13456), appendix G.
    Their factor for variance-preserving processes is 1 here (see `langevin`). The marginal is kept up to the
    discretisation: the variance v of a Gaussian becomes `v/(1 - snr^2 sigma^2/v)`.

    Args:
      snr: the length of a step relative to `sigma`; a number, which may be traced.
      steps: the number of steps at each noise level. Static.

    Raises:
      ValueError: `snr` is negative or not finite, or `steps` is not an integer of at least 0.
    """
    return AnnealedLangevin(snr, steps)
