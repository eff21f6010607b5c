"""Changes of an estimate, which keep the pair of data and noise consistent: `x = alpha x0 + sigma eps`."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from jaxdiff import parametrizations, trees
from jaxdiff.arithmetic import quotient
from jaxdiff.parametrizations import Estimate
from jaxdiff.processes import Process

# What a rule computes with: the output of a network of this parametrization.
Prediction = Literal["x0", "eps", "v", "velocity"]


def with_x0(process: Process, estimate: Estimate, x0: PyTree, t: Any) -> Estimate:
    """The pair with other data, and with the noise `eps - alpha/sigma (x0' - x0)`.

    Without noise, `sigma = 0`, eps stays.
    """
    alpha, sigma = process.alpha(t), process.sigma(t)
    change = trees.lincomb((1.0, -1.0), (x0, estimate.x0))
    return Estimate(x0, trees.lincomb((1.0, -quotient(alpha, sigma)), (estimate.eps, change)))


def with_score(process: Process, estimate: Estimate, change: PyTree, scale: Any, t: Any) -> Estimate:
    """The pair whose score has grown by `scale * change`.

        eps' = eps - scale sigma change        x0' = x0 + scale sigma^2/alpha change

    Without signal, `alpha = 0`, x0 stays.
    """
    alpha, sigma = process.alpha(t), process.sigma(t)
    x0 = trees.lincomb((1.0, scale * quotient(sigma**2, alpha)), (estimate.x0, change))
    return Estimate(x0, trees.lincomb((1.0, -scale * sigma), (estimate.eps, change)))


def predicted(process: Process, prediction: Prediction, estimate: Estimate, t: Any) -> PyTree:
    """The output F of a network of a parametrization, for an estimate."""
    return parametrizations.output_of(process, _parametrization(prediction), estimate, t)


def with_prediction(
    process: Process, prediction: Prediction, x: PyTree, estimate: Estimate, output: PyTree, t: Any
) -> Estimate:
    """The pair that another output F of a network of a parametrization stands for.

    The estimate stays where an output adds nothing to x: for "eps" where `alpha = 0`, for "x0" where `sigma = 0`.
    """
    (p, q), alpha, sigma = _parametrization(prediction).target(process, t), process.alpha(t), process.sigma(t)
    determinant = alpha * q - sigma * p
    p, q, alpha, sigma = (quotient(side, determinant) for side in (p, q, alpha, sigma))
    found = Estimate(trees.lincomb((q, -sigma), (x, output)), trees.lincomb((-p, alpha), (x, output)))
    return choose(determinant != 0, found, estimate)


def choose(condition: Any, one: PyTree, other: PyTree) -> PyTree:
    """`one` where the condition (a scalar or `[batch]`) is true, and `other` elsewhere."""
    return jax.tree.map(lambda a, b: jnp.where(trees.expand(condition, a), a, b), one, other)


def _parametrization(prediction: Prediction) -> parametrizations.Parametrization:
    made: parametrizations.Parametrization = getattr(parametrizations, prediction)()
    return made
