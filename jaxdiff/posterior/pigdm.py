"""Pseudoinverse-guided diffusion: the data given x_t count as Gaussian, with the same variance everywhere."""

import dataclasses
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from jaxdiff import trees
from jaxdiff.checks import positive
from jaxdiff.denoisers import Denoiser
from jaxdiff.parametrizations import Estimate
from jaxdiff.posterior.conditioned import Conditioned, arguments, invertible
from jaxdiff.posterior.observations import check_std
from jaxdiff.posterior.operators.operator import Operator


@trees.register
@dataclasses.dataclass(frozen=True)
class PiGDMDenoiser(Conditioned):
    """The denoiser of pseudoinverse-guided diffusion. `pigdm` makes it."""

    std: Float[Array, "*batch"]
    data_std: Float[Array, ""]

    def __call__(self, x: PyTree, t: Any, s: Any = None) -> Estimate:
        prior = self.differentiated(x, t, s)
        # All is divided by r^2, so that nothing becomes infinite at the clean end.
        square = jnp.maximum(prior.sigma**2, jnp.finfo(prior.sigma.dtype).tiny)
        precision = (prior.alpha**2 * self.data_std**2 + square) / self.data_std**2  # sigma^2 / r^2
        change = self.innovation(prior.estimate.x0, self.std**2 * precision / square)
        return prior.corrected(trees.lincomb((precision / prior.alpha,), (prior.pullback(change),)))


def pigdm(
    denoiser: Denoiser, operator: Operator, observation: PyTree, std: Any, *, data_std: Any = 1.0
) -> PiGDMDenoiser:
    """Pseudoinverse guidance: data given x_t count as Gaussian, with the variance r^2 of isotropic data.

        x0' = x0 + sigma^2/alpha J^T A^T (r^2 A A^T + std^2)^-1 (y - A x0)
        r^2 = data_std^2 sigma^2 / (alpha^2 data_std^2 + sigma^2)        J = d x0 / d x_t

    Song et al. 2023 (Pseudoinverse-Guided Diffusion Models for Inverse Problems, ICLR), in the form of a conditional
    score, which every solver may follow. The published sampler multiplies the correction by further factors. The
    result is exact for data from N(m, data_std^2 I).

    Each call evaluates the denoiser once and its transposed derivative once. docs/posterior.md has times.

    Args:
      denoiser: the denoiser of the prior.
      operator: a linear operator, or one with a `pseudo_inverse`, such as `operators.jpeg`.
      observation: what was seen, `y = A(x_0) + std n`, with `[batch]` rows or one row for all examples. It is a leaf.
      std: the standard deviation of the noise, in the units of the data that the model sees: for pictures in [-1, 1]
        it is twice that for [0, 1]. A number or `[batch]`, at least 0. It is a leaf.
      data_std: the standard deviation of the data, 1 in the paper. It is a leaf.

    Raises:
      TypeError: `denoiser` is no denoiser, or `operator` has no pseudo-inverse.
      ValueError: `std` is negative, or `data_std` is not above 0. When the result is called: the shapes of the
        observation are not those of the operator's values.
    """
    if not trees.traced(data_std):
        positive("data_std", data_std)
    fields = arguments(denoiser, invertible(operator), observation)
    return PiGDMDenoiser(*fields, check_std(std, zero=True), jnp.asarray(data_std, float))
