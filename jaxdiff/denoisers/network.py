"""The denoisers that networks define."""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from jaxdiff import parametrizations, trees
from jaxdiff.checks import require
from jaxdiff.denoisers.denoiser import Denoiser
from jaxdiff.parametrizations import Estimate, Parametrization
from jaxdiff.processes import Process


@trees.register
@dataclasses.dataclass(frozen=True)
class NetworkDenoiser:
    """The denoiser that a network defines. `from_network` makes it."""

    process: Process
    params: PyTree
    cond: PyTree
    parametrization: Parametrization = dataclasses.field(metadata={"static": True})
    apply: Callable[..., PyTree] = dataclasses.field(metadata={"static": True})

    def __call__(self, x: PyTree, t: Any, s: Any = None) -> Estimate:
        t = jnp.asarray(t)
        output = self.output(x, t, s)
        trees.check_alike("the network's output", output, x)
        return parametrizations.estimate(self.process, self.parametrization, x, output, t)

    def output(self, x: PyTree, t: Any, s: Any = None) -> PyTree:
        """The output F of the network at `x = x_t`."""
        scale = self.parametrization.scale(self.process, jnp.asarray(t))
        time = self.time(x, t, s)
        arguments = (time,) if self.cond is None else (time, self.cond)
        return self.apply(self.params, trees.lincomb((scale,), (x,)), *arguments)

    def time(self, x: PyTree, t: Any, s: Any = None) -> Array:
        """The time input of the network, for each example."""
        return trees.per_example(self.parametrization.time_input(self.process, jnp.asarray(t)), x)


def from_network(
    process: Process,
    parametrization: Parametrization,
    apply: Callable[..., PyTree],
    params: PyTree,
    cond: PyTree = None,
) -> NetworkDenoiser:
    """The denoiser that a network defines.

    Args:
      process: the process that the network was trained on.
      parametrization: the input of the network and the meaning of its output.
      apply: the network as a function `apply(params, x, time)`, or `apply(params, x, time, cond)` if `cond` is given:
        the `apply` of a Linen module, a function around `nnx.merge`, or any other function of arrays. `x` has leaves
        `[batch, *event]`, float32 or wider; `time` is `[batch]`. The output has the shapes of `x` and any
        floating-point type. `apply` is static: pass the same function object again to avoid a new compilation.
      params: the parameters, any pytree. None if the function has no parameters.
      cond: the conditions, any pytree.

    Raises:
      TypeError: `apply` is not callable, or see `parametrizations.check`.
      ValueError: the parametrization is not defined at the noisy end of the process (see `parametrizations.check`).
        When the denoiser is called: the output does not have the shape of `x`.
    """
    _check(process, parametrization, apply)
    return NetworkDenoiser(process, params, cond, parametrization, apply)


def _check(process: Process, parametrization: Parametrization, apply: Callable[..., PyTree]) -> None:
    require(callable(apply), "apply", apply, "functions (params, x, time[, cond]) -> output", TypeError)
    parametrizations.check(process, parametrization)


class VarianceDenoiser(Denoiser, Protocol):
    """The interface of a denoiser that has also learned the variances of its ancestral steps."""

    def with_fraction(self, x: PyTree, t: Any) -> tuple[Estimate, PyTree]:
        """The estimate, and where each coordinate's log-variance lies between the smallest (0) and the largest (1)."""


@trees.register
@dataclasses.dataclass(frozen=True)
class NetworkVarianceDenoiser(NetworkDenoiser):
    """The denoiser of a network that learned variances too. `from_network_with_variance` makes it."""

    def __call__(self, x: PyTree, t: Any, s: Any = None) -> Estimate:
        return self.with_fraction(x, t)[0]

    def with_fraction(self, x: PyTree, t: Any) -> tuple[Estimate, PyTree]:
        """The estimate and the fraction, both of the shape of `x`."""
        t = jnp.asarray(t)
        doubled = jax.tree.map(_doubled, x)
        output = self.output(x, t)
        trees.check_alike("the network's output (twice the channels of x)", output, doubled)
        first = jax.tree.map(lambda o: o[..., : o.shape[-1] // 2], output)
        second = jax.tree.map(lambda o: o[..., o.shape[-1] // 2 :], output)
        fraction = jax.tree.map(lambda v: (v.astype(trees.wide(v)) + 1) / 2, second)
        return parametrizations.estimate(self.process, self.parametrization, x, first, t), fraction


def _doubled(leaf: Array) -> jax.ShapeDtypeStruct:
    require(leaf.ndim >= 2, "x.shape", leaf.shape, "[batch, ..., channels]")
    return jax.ShapeDtypeStruct((*leaf.shape[:-1], 2 * leaf.shape[-1]), leaf.dtype)


def from_network_with_variance(
    process: Process,
    parametrization: Parametrization,
    apply: Callable[..., PyTree],
    params: PyTree,
    cond: PyTree = None,
) -> NetworkVarianceDenoiser:
    """The denoiser of a network that also learned the variances of its ancestral steps, as in iDDPM.

    The output of the network has twice the channels (the last axis) of `x`. The first half is the output that
    `parametrization` describes. The second half, `v`, lies roughly in [-1, 1]. It places the log-variance of a step
    between its smallest and its largest sensible value:

        log variance = f log(large) + (1 - f) log(small)        f = (v + 1)/2

    Nichol & Dhariwal 2021 (arXiv 2102.09672), equation 15. The result can be called like any other denoiser. In
    addition, `with_fraction(x, t)` gives the estimate and f, for `sampling.learned_variance` and for
    `likelihood.discrete_time(variance="learned")`.

    Args:
      process, parametrization, apply, params, cond: see `from_network`.

    Raises:
      TypeError, ValueError: see `from_network`; the output must have twice the channels of `x`.
    """
    _check(process, parametrization, apply)
    return NetworkVarianceDenoiser(process, params, cond, parametrization, apply)
