"""The pseudo-inverse of any linear operator."""

from typing import Any

from jaxtyping import PyTree

from jaxdiff import trees
from jaxdiff.posterior.krylov import conjugate_gradients


def normal_equations(operator: Any, y: PyTree, damping: Any, iterations: int) -> PyTree:
    """The damped pseudo-inverse `A^T (A A^T + damping)^-1 y`, by conjugate gradients on the normal equations

        (A^T A + damping) x = A^T y

    Args:
      operator: a linear operator with `adjoint`.
      y: the observation.
      damping: at least 0; a number, or `[batch]`.
      iterations: the number of iterations.
    """

    def apply(x: PyTree) -> tuple[PyTree, PyTree]:
        return trees.lincomb((1.0, damping), (operator.adjoint(operator(x)), x)), x

    return conjugate_gradients(apply, operator.adjoint(y), iterations)
