"""Plug-and-play restoration: the estimate makes a compromise with the observation."""

import dataclasses
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from jaxdiff import trees
from jaxdiff.denoisers import Denoiser, evaluate
from jaxdiff.parametrizations import Estimate
from jaxdiff.posterior.conditioned import Conditioned, arguments, invertible
from jaxdiff.posterior.observations import check_std
from jaxdiff.posterior.operators.operator import Operator


@trees.register
@dataclasses.dataclass(frozen=True)
class DiffPIRDenoiser(Conditioned):
    """The denoiser of plug-and-play restoration. `diffpir` makes it."""

    std: Float[Array, "*batch"]
    strength: Float[Array, "*batch"]

    def __call__(self, x: PyTree, t: Any, s: Any = None) -> Estimate:
        x0, eps = evaluate(self.denoiser, x, t, s)
        t = jnp.asarray(t)
        alpha, sigma = self.process.alpha(t), self.process.sigma(t)
        ratio = alpha / jnp.maximum(sigma, jnp.finfo(sigma.dtype).tiny ** 0.5)
        change = self.innovation(x0, self.strength * (self.std * ratio) ** 2)
        ratio = jnp.where(sigma > 0, ratio, 0.0)
        return Estimate(trees.lincomb((1.0, 1.0), (x0, change)), trees.lincomb((1.0, -ratio), (eps, change)))


def diffpir(
    denoiser: Denoiser, operator: Operator, observation: PyTree, std: Any, *, strength: Any = 1.0
) -> DiffPIRDenoiser:
    """Plug-and-play restoration: the estimate makes a compromise with the observation.

        x0' = argmin |y - A x|^2 + rho |x - x0|^2        rho = strength std^2 alpha^2 / sigma^2
            = x0 + A^T (A A^T + rho)^-1 (y - A x0)

    eps follows from x0', so that the pair is consistent. Zhu et al. 2023 (DiffPIR, arXiv 2305.08995), algorithm
    1. The published sampler is `solvers.renoise` with `eta = sqrt(zeta)`: zeta is 0.25 for super-resolution, 0.1 for
    deblurring and 1 for inpainting, on 100 steps. The published code takes at least 0.001 for `std`; here 0 is allowed,
    and leaves no doubt of what was seen.

    For data from N(m, s^2 I) the compromise would be exact with `strength (sigma^2 + alpha^2 s^2) / (alpha^2 s^2)` in
    the place of `strength`. Each call evaluates the denoiser once, and does not differentiate it.

    Args:
      denoiser: the denoiser of the prior.
      operator: a linear operator. Its damped pseudo-inverse is a formula, or comes from conjugate gradients.
      observation: what was seen, `y = A(x_0) + std n`, with `[batch]` rows or one row for all examples. It is a leaf.
      std: the standard deviation of the noise, in the units of the data that the model sees: for pictures in [-1, 1]
        it is twice that for [0, 1]. A number or `[batch]`, at least 0. It is a leaf.
      strength: the paper's lambda, the weight of the estimate; a number or `[batch]`. It is a leaf.

    Raises:
      TypeError: `denoiser` is no denoiser, or `operator` has no pseudo-inverse.
      ValueError: `std` is negative. When the result is called: the shapes of the observation are not those of the
        operator's values.
    """
    fields = arguments(denoiser, invertible(operator), observation)
    return DiffPIRDenoiser(*fields, check_std(std, zero=True), jnp.asarray(strength, float))
