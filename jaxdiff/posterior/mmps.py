"""Moment-matching posterior sampling: the covariance of the data comes from the derivative of the denoiser."""

import dataclasses
from typing import Any

from jaxtyping import Array, Float, PyTree

from jaxdiff import trees
from jaxdiff.checks import integer, one_of
from jaxdiff.denoisers import Denoiser
from jaxdiff.parametrizations import Estimate
from jaxdiff.posterior.conditioned import Conditioned, arguments
from jaxdiff.posterior.krylov import Solver, solve
from jaxdiff.posterior.observations import check_std
from jaxdiff.posterior.operators.operator import Operator


@trees.register
@dataclasses.dataclass(frozen=True)
class MMPSDenoiser(Conditioned):
    """The denoiser of moment-matching posterior sampling. `mmps` makes it."""

    std: Float[Array, "*batch"]
    iterations: int = dataclasses.field(metadata={"static": True})
    solver: Solver = dataclasses.field(metadata={"static": True})

    def __call__(self, x: PyTree, t: Any, s: Any = None) -> Estimate:
        prior = self.differentiated(x, t, s)
        residual, push, pull = self.residual(prior.estimate.x0)

        def apply(u: PyTree) -> tuple[PyTree, PyTree]:
            product = prior.covariance(pull(u))
            return trees.lincomb((self.std**2, 1.0), (u, push(product))), product

        return prior.corrected(solve(apply, residual, self.iterations, self.solver))


def mmps(
    denoiser: Denoiser,
    operator: Operator,
    observation: PyTree,
    std: Any,
    *,
    iterations: int = 1,
    solver: Solver = "gmres",
) -> MMPSDenoiser:
    """The posterior by moment matching: data given x_t count as Gaussian, with the denoiser's own covariance C.

        x0' = x0 + C A^T (std^2 + A C A^T)^-1 (y - A x0)        C = sigma^2/alpha (d x0 / d x_t)^T

    Rozet et al. 2024 (arXiv 2405.13712). Where data given x_t are Gaussian, as for a Gaussian prior, the result is
    exact with enough iterations: as many as there are observed numbers. In practice few are enough, as the method
    solves the equation again at every step. An operator that is not linear is linearised at x0.

    Each call evaluates the denoiser once, and as many products with its transposed derivative as there are iterations.
    docs/posterior.md has times.

    Args:
      denoiser: the denoiser of the prior.
      operator: what is seen of the data: see `posterior.operators`, or any function that can be differentiated.
      observation: what was seen, `y = A(x_0) + std n`, with `[batch]` rows or one row for all examples. It is a leaf.
      std: the standard deviation of the noise, in the units of the data that the model sees: for pictures in [-1, 1]
        it is twice that for [0, 1]. A number or `[batch]`, at least 0. It is a leaf.
      iterations: the number of iterations of the linear solver. Static.
      solver: "gmres" for any denoiser; "cg" (conjugate gradients) for one whose derivative is symmetric, as exact
        denoisers are: it keeps fewer vectors. Static.

    Raises:
      TypeError: `denoiser` is no denoiser, or `operator` is not callable.
      ValueError: `std` is negative, `iterations` is less than 1, or `solver` is unknown. When the result is called: the
        shapes of the observation are not those of the operator's values.
    """
    integer("iterations", iterations)
    one_of("solver", solver, ("gmres", "cg"))
    return MMPSDenoiser(*arguments(denoiser, operator, observation), check_std(std, zero=True), int(iterations), solver)
