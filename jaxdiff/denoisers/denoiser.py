"""The interface of denoisers."""

from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import PyTree

from jaxdiff import trees
from jaxdiff.checks import require
from jaxdiff.parametrizations import Estimate
from jaxdiff.processes import Process
from jaxdiff.processes.process import check_functions


class Denoiser(Protocol):
    """The interface of a denoiser."""

    @property
    def process(self) -> Process:
        """The process of `x_t`."""

    def __call__(self, x: PyTree, t: Any, s: Any = None) -> Estimate:
        """The estimate at `x = x_t` (leaves `[batch, *event]`) and time `t` (a scalar or `[batch]`).

        The DDIM step of a flow map's pair from t to s ends where the ODE leads. Other denoisers ignore s.
        """


@runtime_checkable
class DenoiserWithMemory(Denoiser, Protocol):
    """The interface of a denoiser that remembers something from evaluation to evaluation, such as a momentum.

    `sample` hands the memory on. Nothing else can, so that a plain call of such a denoiser raises a ValueError.
    """

    def start(self, x: PyTree) -> PyTree:
        """The memory before the first evaluation, for points of the shape of `x`."""

    def with_memory(self, memory: PyTree, x: PyTree, t: Any) -> tuple[Estimate, PyTree]:
        """The estimate at `x = x_t` and time `t`, and the memory after it."""


def is_consistent(denoiser: Any) -> bool:
    """Whether the pairs of a denoiser are consistent: `x = alpha x0 + sigma eps`.

    A denoiser says that its pairs are not, by an attribute `consistent = False`. Tableaux of the form "renoise" can
    sample it. Solvers, likelihoods and everything else that needs a score refuse it.
    """
    return bool(getattr(denoiser, "consistent", True))


def evaluate(denoiser: Denoiser, x: PyTree, t: Any, s: Any = None) -> Estimate:
    """The estimate of a denoiser, which may lack the second time s unless it is given."""
    return denoiser(x, t) if s is None else denoiser(x, t, s)


def check_denoiser(denoiser: Any, *, consistent: bool = True) -> None:
    """Raises an error unless `denoiser` is a denoiser of a process that JAX can trace.

    Args:
      denoiser: anything.
      consistent: whether the pairs of the denoiser have to be consistent.

    Raises:
      TypeError: the denoiser is not callable or has no process.
      ValueError: the pairs are not consistent.
    """
    good = callable(denoiser) and isinstance(getattr(denoiser, "process", None), Process)
    allowed = "callables with a process, such as denoisers.from_network(...)"
    require(good, "denoiser", denoiser, allowed, TypeError)
    allowed = "denoisers with x = alpha x0 + sigma eps; solvers.renoise alone samples the others"
    require(not consistent or is_consistent(denoiser), "denoiser", denoiser, allowed)
    check_functions(denoiser.process)


def score(denoiser: Denoiser, x: PyTree, t: Any) -> PyTree:
    """The score `grad log p_t(x) = -E[eps | x_t = x] / sigma(t)`, of the shape of `x`.

    Vincent 2011; Song et al. 2021 (arXiv 2011.13456).

    Raises:
      ValueError: the pairs of the denoiser are not consistent.
    """
    check_denoiser(denoiser)
    return trees.lincomb((-1 / denoiser.process.sigma(jnp.asarray(t)),), (denoiser(x, t).eps,))
