"""One operator after another."""

import dataclasses
from typing import Any

from jaxtyping import PyTree

from jaxdiff import trees
from jaxdiff.checks import integer, require
from jaxdiff.posterior.operators.inverse import normal_equations
from jaxdiff.posterior.operators.operator import Operator


@trees.register
@dataclasses.dataclass(frozen=True)
class Composition:
    """One operator after another. `compose` makes it."""

    operators: tuple[Operator, ...]

    def __call__(self, x: PyTree) -> PyTree:
        """The observation of `x`."""
        for operator in self.operators:
            x = operator(x)
        return x


@trees.register
@dataclasses.dataclass(frozen=True)
class LinearComposition(Composition):
    """One linear operator after another. `compose` makes it."""

    iterations: int = dataclasses.field(metadata={"static": True})

    def adjoint(self, y: PyTree) -> PyTree:
        """The product `A^T y`."""
        for operator in reversed(self.operators):
            y = operator.adjoint(y)  # type: ignore[attr-defined]
        return y

    def pseudo_inverse(self, y: PyTree, damping: Any = 0.0) -> PyTree:
        """The damped pseudo-inverse `A^T (A A^T + damping)^-1 y`, by conjugate gradients."""
        return normal_equations(self, y, damping, self.iterations)


def compose(*operators: Operator, iterations: int = 20) -> Composition:
    """One operator after another, the first one first: `compose(blur, box)` sees a small part of a blurred picture.

    A composition of linear operators is linear. The pseudo-inverse of a product is in general not the product of the
    pseudo-inverses, so that it comes from conjugate gradients on the normal equations (see `linear`). Noise between
    two operators is not expressed by a composition.

    Args:
      operators: at least one.
      iterations: the number of iterations of the pseudo-inverse.

    Raises:
      TypeError: an operator is not callable.
      ValueError: there is no operator, or `iterations` is less than 1.
    """
    require(operators, "operators", operators, "one operator or more")
    for operator in operators:
        require(callable(operator), "operator", operator, "functions x -> y", TypeError)
    integer("iterations", iterations)
    if all(hasattr(operator, "adjoint") for operator in operators):
        return LinearComposition(operators, iterations)
    return Composition(operators)
