"""Denoisers made of a function of one's own."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import PyTree

from jaxdiff import trees
from jaxdiff.arithmetic import quotient
from jaxdiff.checks import require
from jaxdiff.parametrizations import Estimate
from jaxdiff.processes import Process


@trees.register
@dataclasses.dataclass(frozen=True)
class FunctionDenoiser:
    """The denoiser that a plain function defines. `from_function` makes it."""

    process: Process
    function: Callable[[PyTree, Any], PyTree] = dataclasses.field(metadata={"static": True})

    def __call__(self, x: PyTree, t: Any, s: Any = None) -> Estimate:
        t = jnp.asarray(t)
        x0 = self.function(x, t)
        trees.check_alike("the function's output", x0, x)
        sigma = self.process.sigma(t)
        inverse = quotient(1.0, sigma)
        return Estimate(x0, eps=trees.lincomb((inverse, -inverse * self.process.alpha(t)), (x, x0)))


def from_function(process: Process, function: Callable[[PyTree, Any], PyTree]) -> FunctionDenoiser:
    """The denoiser of a plain function that estimates the data.

        denoiser = jd.denoisers.from_function(jd.processes.edm(), lambda x, t: x / (1 + t**2))

    The noise follows from the data: `eps = (x - alpha x0)/sigma`, and 0 where `sigma = 0`.

    Args:
      process: the process that corrupts the data.
      function: a function `(x, t) -> x0`. `x` has leaves `[batch, *event]`, and x0 has the shapes of `x`. `t` is in the
        units of the process: a scalar, as samplers give it, or `[batch]`. The function is static, as in `from_network`.
        It must be pure: numbers that it holds are compiled into the sampler, and are not looked up again.

    Raises:
      TypeError, ValueError: as for `from_network`; the output must have the shapes of `x`.
    """
    require(isinstance(process, Process), "process", process, "processes, such as vp_linear()", TypeError)
    require(callable(function), "function", function, "functions (x, t) -> x0", TypeError)
    return FunctionDenoiser(process, function)
