"""Denoising diffusion null-space models: what is observed replaces what the denoiser says of it."""

import dataclasses
from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from jaxdiff import trees
from jaxdiff.denoisers import Denoiser, evaluate
from jaxdiff.parametrizations import Estimate
from jaxdiff.posterior.conditioned import Conditioned, arguments, invertible
from jaxdiff.posterior.operators.operator import Operator


@trees.register
@dataclasses.dataclass(frozen=True)
class RangeDenoiser(Conditioned):
    """The denoiser of `ddnm` and of `ddrm_jpeg`, which make it: x0 moves towards the observation, and eps stays."""

    consistent: ClassVar[bool] = False
    weight: Float[Array, "*batch"]

    def __call__(self, x: PyTree, t: Any, s: Any = None) -> Estimate:
        x0, eps = evaluate(self.denoiser, x, t, s)
        return Estimate(trees.lincomb((1.0, self.weight), (x0, self.innovation(x0))), eps)


def ddnm(denoiser: Denoiser, operator: Operator, observation: PyTree) -> RangeDenoiser:
    """Null-space models: the range of the observation comes from y, and the null space from the denoiser.

        x0' = A^+ y + (1 - A^+ A) x0        eps' = eps

    Wang et al. 2022 (arXiv 2212.00490), algorithm 1, for observations without noise; `ddnm_plus` is their sampler for
    noise. The pair is not consistent, as in the published code, so that `solvers.renoise` has to sample it. The
    published samples are those of `eta = 0.85`.

    Each call evaluates the denoiser once.

    Args:
      denoiser: the denoiser of the prior.
      operator: a linear operator, or one with a `pseudo_inverse`, such as `operators.jpeg`.
      observation: what was seen, `y = A(x_0)`, with `[batch]` rows or one row for all examples. It is a leaf.

    Raises:
      TypeError: `denoiser` is no denoiser, or `operator` has no pseudo-inverse.
      ValueError: when the result is called, the shapes of the observation are not those of the operator's values.
    """
    return RangeDenoiser(*arguments(denoiser, invertible(operator), observation), jnp.ones(()))
