"""The interface of denoisers."""

from typing import Any, Protocol

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


def check_denoiser(denoiser: Any) -> None:
    """Raises a TypeError unless `denoiser` is callable and has a process that JAX can trace."""
    good = callable(denoiser) and isinstance(getattr(denoiser, "process", None), Process)
    allowed = "callables with a process, such as denoisers.from_network(...)"
    require(good, "denoiser", denoiser, allowed, TypeError)
    check_functions(denoiser.process)


def score(denoiser: Denoiser, x: PyTree, t: Any) -> PyTree:
    """The score `grad log p_t(x) = -E[eps | x_t = x] / sigma(t)`, of the shape of `x`.

    Vincent 2011; Song et al. 2021 (arXiv 2011.13456).
    """
    return trees.lincomb((-1 / denoiser.process.sigma(jnp.asarray(t)),), (denoiser(x, t).eps,))
