"""Tweedie moment projected diffusion: as moment matching, with the row sums of the covariance of the observation."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from jaxdiff import trees
from jaxdiff.denoisers import Denoiser
from jaxdiff.parametrizations import Estimate
from jaxdiff.posterior.conditioned import Conditioned, arguments
from jaxdiff.posterior.observations import check_std
from jaxdiff.posterior.operators.operator import Operator


@trees.register
@dataclasses.dataclass(frozen=True)
class TMPDDenoiser(Conditioned):
    """The denoiser of Tweedie moment projected diffusion. `tmpd` makes it."""

    std: Float[Array, "*batch"]

    def __call__(self, x: PyTree, t: Any, s: Any = None) -> Estimate:
        prior = self.differentiated(x, t, s)
        residual, push, pull = self.residual(prior.estimate.x0)
        sums = push(prior.covariance(pull(jax.tree.map(jnp.ones_like, residual))))

        def divided(r: Array, total: Array) -> Array:
            # The sums of an exact covariance can be negative too. A variance cannot.
            variance = jnp.maximum(total, 0.0) + trees.expand(self.std**2, total)
            return jnp.where(variance > 0, r / jnp.where(variance > 0, variance, 1.0), 0.0)

        return prior.corrected(prior.covariance(pull(jax.tree.map(divided, residual, sums))))


def tmpd(denoiser: Denoiser, operator: Operator, observation: PyTree, std: Any) -> TMPDDenoiser:
    """Moment matching with row sums in the place of a matrix: the covariance of the observation counts as diagonal.

        x0' = x0 + C A^T (std^2 + max(A C A^T 1, 0))^-1 (y - A x0)        C = sigma^2/alpha (d x0 / d x_t)^T

    Boys et al. 2023 (arXiv 2310.06721). The row sums `A C A^T 1` take the place of the diagonal. They are
    the diagonal where `A C A^T` is diagonal, and there the result is that of `mmps`: exact for a Gaussian prior with
    independent coordinates of which an observation sees some.

    Each call evaluates the denoiser once and its transposed derivative twice. docs/posterior.md has times.

    Args:
      denoiser: the denoiser of the prior.
      operator: what is seen of the data: see `posterior.operators`, or any function that can be differentiated. An
        operator that is not linear is linearised at x0.
      observation: what was seen, `y = A(x_0) + std n`, with `[batch]` rows or one row for all examples. It is a leaf.
      std: the standard deviation of the noise, in the units of the data that the model sees: for pictures in [-1, 1]
        it is twice that for [0, 1]. A number or `[batch]`, at least 0. It is a leaf.

    Raises:
      TypeError: `denoiser` is no denoiser, or `operator` is not callable.
      ValueError: `std` is negative. When the result is called: the shapes of the observation are not those of the
        operator's values.
    """
    return TMPDDenoiser(*arguments(denoiser, operator, observation), check_std(std, zero=True))
