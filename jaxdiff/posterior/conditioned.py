"""The base of denoisers of a posterior: a denoiser of the prior, an operator and an observation.

The observation is `y = A(x_0) + std n`, with standard normal noise n. The posterior's denoiser estimates
`E[x_0 | x_t, y]`. By Bayes' rule its score is that of the prior and a correction g, and its estimate is

    x0' = x0 + (sigma^2/alpha) g        eps' = eps - sigma g        g = grad log p(y | x_t)

Each method has an approximation of g. The pair stays consistent, so that every solver may follow it.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from jaxdiff import trees
from jaxdiff.arithmetic import quotient
from jaxdiff.checks import message
from jaxdiff.denoisers import Denoiser, check_denoiser, evaluate
from jaxdiff.parametrizations import Estimate
from jaxdiff.posterior.observations import difference, seen
from jaxdiff.posterior.operators.operator import LinearOperator, Operator
from jaxdiff.processes import Process, log_snr, time_of_log_snr

# The most noise, as sigma/alpha, at which a method differentiates a denoiser. With more noise x_t says nothing, and
# the factor sigma^2/alpha has no bound.
MOST_NOISE = 1e3


@dataclasses.dataclass(frozen=True)
class Conditioned:
    """A denoiser of the prior, and what is observed.

    Attributes:
      denoiser: the denoiser of the prior.
      operator: what is seen of the data.
      observation: what was seen, with one row or `[batch]` rows.
      latest: the time at which `sigma/alpha` is `MOST_NOISE`, or `t_max`.
    """

    denoiser: Denoiser
    operator: Operator
    observation: PyTree
    latest: Float[Array, ""]

    @property
    def process(self) -> Process:
        """The process of the prior's denoiser."""
        return self.denoiser.process

    def innovation(self, x0: PyTree, damping: Any = 0.0) -> PyTree:
        """The least change of x0 that explains the residual, `A^T (A A^T + damping)^-1 (y - A(x0))`."""
        operator = invertible(self.operator)
        return operator.pseudo_inverse(difference(self.observation, operator(x0)), damping)

    def differentiated(self, x: PyTree, t: Any, s: Any = None) -> "Differentiated":
        """The estimate of the prior's denoiser with its derivative.

        The time is `t`, or the latest time at which something is left to differentiate. For x at a time without signal
        the later estimate is the same but for one part in `MOST_NOISE`.
        """
        t = jnp.asarray(t)
        t = t.astype(trees.wide(t))
        alpha, sigma = self.process.alpha(t), self.process.sigma(t)
        when = jnp.where(alpha * MOST_NOISE >= sigma, t, self.latest.astype(t.dtype))

        def both(x: PyTree) -> tuple[PyTree, PyTree]:
            estimate = evaluate(self.denoiser, x, when, s)
            return estimate.x0, estimate.eps

        x0, pull, eps = jax.vjp(both, x, has_aux=True)
        alpha_then, sigma_then = self.process.alpha(when), self.process.sigma(when)
        inverse = quotient(1.0, sigma)
        # The noise in x at t, for the same data: x = alpha x0 + sigma eps holds at both times.
        eps = trees.lincomb(((alpha_then - alpha) * inverse, sigma_then * inverse), (x0, eps))

        def pullback(cotangent: PyTree) -> PyTree:
            return pull(trees.cast_like(cotangent, x0))[0]

        return Differentiated(Estimate(x0, eps), pullback, alpha_then, sigma_then, alpha * inverse)

    def residual(self, x0: PyTree) -> tuple[PyTree, Callable[[PyTree], PyTree], Callable[[PyTree], PyTree]]:
        """The residual `y - A(x0)`, and the products with the derivative of A and with its transpose."""
        value, push, pull = linearised(self.operator, x0)
        return difference(self.observation, value), push, pull


@dataclasses.dataclass(frozen=True)
class Differentiated:
    """An estimate of a denoiser with its derivative.

    Attributes:
      estimate: the estimate.
      pullback: the products `J^T v` with the derivative J of x0 by x.
      alpha, sigma: those of the time at which the denoiser was evaluated.
      ratio: `alpha/sigma` at the time of x, and 0 without noise.
    """

    estimate: Estimate
    pullback: Callable[[PyTree], PyTree]
    alpha: Float[Array, "*batch"]
    sigma: Float[Array, "*batch"]
    ratio: Float[Array, "*batch"]

    def covariance(self, v: PyTree) -> PyTree:
        """The product with the covariance of x_0 given x_t, `sigma^2/alpha J^T v` (Tweedie's formula)."""
        return trees.lincomb((self.sigma**2 / self.alpha,), (self.pullback(v),))

    def corrected(self, change: PyTree) -> Estimate:
        """The consistent estimate whose x0 has changed by `change`."""
        x0, eps = self.estimate
        return Estimate(trees.lincomb((1.0, 1.0), (x0, change)), trees.lincomb((1.0, -self.ratio), (eps, change)))


def linearised(operator: Operator, x0: PyTree) -> tuple[PyTree, Callable[[PyTree], PyTree], Callable[[PyTree], PyTree]]:
    """The value of an operator, and the products with its derivative and with the transpose of it."""
    adjoint = getattr(operator, "adjoint", None)
    if adjoint is not None:
        return operator(x0), operator, adjoint
    value, pull = jax.vjp(operator, x0)
    return value, lambda v: jax.jvp(operator, (x0,), (v,))[1], lambda u: pull(trees.cast_like(u, value))[0]


def arguments(
    denoiser: Denoiser, operator: Operator, observation: PyTree
) -> tuple[Denoiser, Operator, PyTree, Float[Array, ""]]:
    """Checks the arguments of a method and returns the fields of `Conditioned`.

    Raises:
      TypeError: `denoiser` is no denoiser, or `operator` is not callable.
      ValueError: the pairs of the denoiser are not consistent.
    """
    check_denoiser(denoiser)
    return denoiser, operator, seen(operator, observation), latest_time(denoiser.process)


def invertible(operator: Any) -> LinearOperator:
    """The operator, which has a pseudo-inverse.

    Raises:
      TypeError: it has none.
    """
    if not hasattr(operator, "pseudo_inverse"):
        allowed = "operators with a pseudo_inverse, such as operators.mask(...) and operators.linear(...)"
        raise TypeError(message("operator", operator, allowed))
    inverse: LinearOperator = operator
    return inverse


def latest_time(process: Process) -> Float[Array, ""]:
    """The time at which `sigma/alpha` is `MOST_NOISE`; `t_max` if the process has less noise."""
    value = -2 * np.log(MOST_NOISE)
    if trees.traced(process):
        end = jnp.asarray(process.t_max, float)
        return jnp.where(log_snr(process, end) < value, time_of_log_snr(process, jnp.asarray(value, float)), end)
    last = np.asarray(process.t_max, np.float64)
    return jnp.asarray(time_of_log_snr(process, value) if log_snr(process, last) < value else last, float)
