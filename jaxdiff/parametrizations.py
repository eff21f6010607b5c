"""Parametrizations: what a network is fed and what its output means.

A network is trained to output `F = p x0 + q eps` for a *target row* `(p, q)` that may depend on time. Its input is
`x_t` times an input scale, and a time label. Together with `x = alpha x0 + sigma eps` an output is two equations for
two unknowns,

    [alpha sigma] [x0 ]   [x]         det = alpha q - sigma p
    [  p     q  ] [eps] = [F]         x0 = (q x - sigma F)/det    eps = (alpha F - p x)/det

and this one solve is every conversion there is: the training target, the denoiser, noise to data to velocity, for every
process.

                row (p, q)                    det                     source
    eps         (0, 1)                        alpha                   Ho et al. 2020 (arXiv 2006.11239), section 3.2
    x0          (1, 0)                        -sigma                  the same
    v           (-sigma, alpha)               alpha^2 + sigma^2       Salimans & Ho 2022 (arXiv 2202.00512), section 4
    velocity    (alpha', sigma')              alpha^2 (sigma/alpha)'  Lipman et al. 2023 (arXiv 2210.02747)
    score       (0, -1/sigma)                 -alpha/sigma            Song et al. 2021 (arXiv 2011.13456)
    edm         (c sigma/sd, -c alpha sd)     -1/(c sd)               Karras et al. 2022 (arXiv 2206.00364), table 1
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from jaxdiff import trees
from jaxdiff.arithmetic import derivative, namespace
from jaxdiff.processes import Process, on_host

# `(process, t) -> number(s)` in the arithmetic of `t`.
Target = Callable[[Process, Any], tuple[Any, Any]]
Scale = Callable[[Process, Any], Any]


class Estimate(NamedTuple):
    """A consistent guess at what `x_t` was made of: `x = alpha x0 + sigma eps`. Leaves `[batch, *event]`, as `x`."""

    x0: PyTree
    eps: PyTree


@dataclasses.dataclass(frozen=True)
class Parametrization:
    """What a network is fed (`scale`, `time_input`) and what its output means (`target`); a static, hashable triple of
    functions.

    Attributes:
      name: as errors call it.
      target: `(process, t) -> (p, q)`, the output is `F = p x0 + q eps`.
      scale: `(process, t) -> c`, the network sees `c x_t`.
      time_input: `(process, t) -> time`, the network is told `time`.
    """

    name: str
    target: Target
    scale: Scale
    time_input: Scale


jax.tree_util.register_static(Parametrization)


# --------------------------------------------------------------------------------------- the solve


def determinant(process: Process, parametrization: Parametrization, t: Any) -> Any:
    """`det = alpha q - sigma p`: how much an output at `t` tells beyond `x_t`; at 0 nothing."""
    p, q = parametrization.target(process, t)
    return process.alpha(t) * q - process.sigma(t) * p


def estimate(process: Process, parametrization: Parametrization, x: PyTree, output: PyTree, t: Any) -> Estimate:
    """The pair `(x0, eps)` that an output `F` at `x_t` means: the 2x2 solve above, in float32 or wider.

    Args:
      x, output: `x_t` and `F`, leaves `[batch, *event]`.
      t: a scalar or `[batch]`.
    """
    (p, q), alpha, sigma = parametrization.target(process, t), process.alpha(t), process.sigma(t)
    inverse = 1 / (alpha * q - sigma * p)  # one division: small networks notice four
    p, q, alpha, sigma = (inverse * side for side in (p, q, alpha, sigma))
    return Estimate(x0=trees.lincomb((q, -sigma), (x, output)), eps=trees.lincomb((-p, alpha), (x, output)))


def output_of(process: Process, parametrization: Parametrization, estimate: Estimate, t: Any) -> PyTree:
    """The output `F = p x0 + q eps` that a pair means: the training target when the pair is the true one."""
    return trees.lincomb(parametrization.target(process, t), estimate)


def check(process: Process, parametrization: Parametrization) -> None:
    """Refuses a parametrization that says nothing at the noisy end of the process.

    Where no signal is left (`alpha(t_max) = 0`) the noise is `x_t` itself: a network that predicts noise or score
    cannot tell what the data was. Lin et al. 2024 (arXiv 2305.08891), section 3.2. A process whose numbers are being
    traced is not checked.

    Raises:
      TypeError: not a process, or not a parametrization.
      ValueError: the determinant vanishes, or the label is not finite, at `t_max`.
    """
    if not isinstance(parametrization, Parametrization):
        raise TypeError(
            f"parametrization = {parametrization!r}; allowed is what jaxdiff.parametrizations.v() and the like return"
        )
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(process)):
        return
    process = on_host(process)
    t = np.float64(process.t_max)
    name = f"parametrization {parametrization.name!r} cannot be used with {type(process).__name__}"
    with np.errstate(divide="ignore"):
        det, time = determinant(process, parametrization, t), parametrization.time_input(process, t)
    if abs(det) < 1e-6:
        raise ValueError(
            f"{name}: alpha(t_max = {t:g}) = {process.alpha(t):.1g} leaves no signal there; allowed are 'v', "
            "'velocity', 'x0' and 'edm', or a smaller t_max"
        )
    if not np.isfinite(time):
        raise ValueError(
            f"{name}: its time input at t_max = {t:g} is {time}; allowed are finite ones, such as that of `raw_time_input`"
        )


# ---------------------------------------------------------------------------------- labels, scales


def default_time_input(process: Process, t: Any) -> Any:
    """The label that networks of this process are customarily told: the index, `1000 t`, or `log(sigma)/4`."""
    return process.time_input(t)


def raw_time_input(process: Process, t: Any) -> Any:
    """The time itself, in the process's own units."""
    return t


def log_ratio_time_input(process: Process, t: Any) -> Any:
    """`log(sigma/alpha)/4`: EDM's c_noise, a quarter of minus half the log-SNR. Infinite where alpha or sigma is 0."""
    xp = namespace(t)
    return xp.log(process.sigma(t) / process.alpha(t)) / 4


def unscaled(process: Process, t: Any) -> Any:
    """The network sees `x_t` as it is."""
    return namespace(t).ones_like(t)


# ---------------------------------------------------------------------------------------- the rows


def _eps(process: Process, t: Any) -> tuple[Any, Any]:
    one = namespace(t).ones_like(t)
    return 0 * one, one


def _x0(process: Process, t: Any) -> tuple[Any, Any]:
    one = namespace(t).ones_like(t)
    return one, 0 * one


def _v(process: Process, t: Any) -> tuple[Any, Any]:
    return -process.sigma(t), process.alpha(t)


def _velocity(process: Process, t: Any) -> tuple[Any, Any]:
    return derivative(process.alpha, t), derivative(process.sigma, t)


def _score(process: Process, t: Any) -> tuple[Any, Any]:
    inverse = 1 / process.sigma(t)
    return 0 * inverse, -inverse


@dataclasses.dataclass(frozen=True)
class _EDMScale:
    """`c = 1/sqrt(alpha^2 sd^2 + sigma^2)`: input of unit variance."""

    sigma_data: float

    def __call__(self, process: Process, t: Any) -> Any:
        return 1 / namespace(t).sqrt((process.alpha(t) * self.sigma_data) ** 2 + process.sigma(t) ** 2)


@dataclasses.dataclass(frozen=True)
class _EDMTarget:
    """`(c sigma/sd, -c alpha sd)`: output of unit variance, orthogonal to the input."""

    sigma_data: float

    def __call__(self, process: Process, t: Any) -> tuple[Any, Any]:
        scale = _EDMScale(self.sigma_data)(process, t)
        return scale * process.sigma(t) / self.sigma_data, -scale * process.alpha(t) * self.sigma_data


def eps(time_input: Scale = default_time_input) -> Parametrization:
    """The network predicts the noise. Needs `alpha(t_max) > 0`."""
    return Parametrization("eps", _eps, unscaled, time_input)


def x0(time_input: Scale = default_time_input) -> Parametrization:
    """The network predicts the data."""
    return Parametrization("x0", _x0, unscaled, time_input)


def v(time_input: Scale = default_time_input) -> Parametrization:
    """The network predicts `v = alpha eps - sigma x0`: well conditioned at every noise level."""
    return Parametrization("v", _v, unscaled, time_input)


def velocity(time_input: Scale = default_time_input) -> Parametrization:
    """The network predicts `d x_t / dt = alpha' x0 + sigma' eps` (flow matching); on `processes.flow()`, `eps - x0`."""
    return Parametrization("velocity", _velocity, unscaled, time_input)


def score(time_input: Scale = default_time_input) -> Parametrization:
    """The network predicts the score `grad log p_t(x) = -eps/sigma`. Needs `alpha(t_max) > 0`."""
    return Parametrization("score", _score, unscaled, time_input)


def edm(sigma_data: float = 0.5, time_input: Scale = log_ratio_time_input) -> Parametrization:
    """EDM's preconditioning: input and target of unit variance at every noise level, for data of standard deviation
    `sigma_data`.

    The input scale is `c_in = 1/sqrt(alpha^2 sd^2 + sigma^2)` and `F = c_in (sigma x0/sd - alpha sd eps)`. With `alpha
    = 1` this is `x0 = c_skip x + c_out F` with `c_skip = sd^2/(sigma^2 + sd^2)` and `c_out = sigma sd/sqrt(sigma^2 +
    sd^2)`. Karras et al. 2022 (arXiv 2206.00364), table 1 and appendix B.6.

    Args:
      sigma_data: the standard deviation of the data.
      time_input: infinite where no signal is left, so give another one to a process with `alpha(t_max) = 0`.
    """
    if not 0 < sigma_data < np.inf:
        raise ValueError(f"sigma_data = {sigma_data}; allowed are positive finite numbers")
    return Parametrization("edm", _EDMTarget(float(sigma_data)), _EDMScale(float(sigma_data)), time_input)
