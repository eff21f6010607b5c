"""Parametrizations: the input of a network and the meaning of its output.

A network is given a scaled input `c x_t` and a time input. It is trained to output `F = p x0 + q eps`, where the
*target* `(p, q)` may depend on time. Together with `x = alpha x0 + sigma eps`, an output gives two equations for the
two unknowns x0 and eps:

    [alpha sigma] [x0 ]   [x]         det = alpha q - sigma p
    [  p     q  ] [eps] = [F]         x0 = (q x - sigma F)/det    eps = (alpha F - p x)/det

This one solution is used everywhere: for training targets, for denoisers, and for conversions between noise, data and
velocity. It holds for every process. `sd` is the standard deviation of the data, and c the input scale of `edm`.

                target (p, q)                 det                     source
    eps         (0, 1)                        alpha                   Ho et al. 2020 (arXiv 2006.11239), section 3.2
    x0          (1, 0)                        -sigma                  the same
    v           (-sigma, alpha)               alpha^2 + sigma^2       Salimans & Ho 2022 (arXiv 2202.00512), section 4
    velocity    (alpha', sigma')              alpha^2 (sigma/alpha)'  Lipman et al. 2023 (arXiv 2210.02747)
    score       (0, -1/sigma)                 -alpha/sigma            Song et al. 2021 (arXiv 2011.13456)
    edm         (c sigma/sd, -c alpha sd)     -1/(c sd)               Karras et al. 2022 (arXiv 2206.00364), table 1
"""

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from jaxdiff import trees
from jaxdiff.arithmetic import derivative, namespace
from jaxdiff.checks import message, one_of, positive
from jaxdiff.components import Choices
from jaxdiff.processes import Process, on_host

__all__ = [
    "Estimate",
    "Parametrization",
    "ParametrizationChoice",
    "Scale",
    "Target",
    "TimeInput",
    "check",
    "default_time_input",
    "determinant",
    "edm",
    "eps",
    "estimate",
    "log_ratio_time_input",
    "output_of",
    "raw_time_input",
    "score",
    "unscaled",
    "v",
    "velocity",
    "x0",
]

# Functions of a process and a time, in the arithmetic of the time.
Target = Callable[[Process, Any], tuple[Any, Any]]
Scale = Callable[[Process, Any], Any]


class Estimate(NamedTuple):
    """An estimate of the data and the noise in `x_t`, consistent with it: `x = alpha x0 + sigma eps`.

    Attributes:
      x0: the data, leaves `[batch, *event]` as x.
      eps: the noise, of the same shape.
    """

    x0: PyTree
    eps: PyTree


@dataclasses.dataclass(frozen=True)
class Parametrization:
    """The input of a network and the meaning of its output, as three functions. It is static and hashable.

    Attributes:
      name: the name in error messages.
      target: `(process, t) -> (p, q)`. The output of the network is `F = p x0 + q eps`.
      scale: `(process, t) -> c`. The input of the network is `c x_t`.
      time_input: `(process, t) -> time`. The time input of the network is `time`.
    """

    name: str
    target: Target
    scale: Scale
    time_input: Scale


jax.tree_util.register_static(Parametrization)

# A parametrization as a setting: a function such as `eps`, with its options.
ParametrizationChoice = Annotated[Callable[..., Parametrization], Choices("jaxdiff.parametrizations")]
# The time input of a network, by its name or as a function.
TimeInput = Literal["default", "raw", "log_ratio"] | Scale


# ---------------------------------------------------------------------------- outputs and estimates


def determinant(process: Process, parametrization: Parametrization, t: Any) -> Any:
    """The determinant `alpha q - sigma p`. Where it is 0, an output does not add any information to `x_t`."""
    p, q = parametrization.target(process, t)
    return process.alpha(t) * q - process.sigma(t) * p


def estimate(process: Process, parametrization: Parametrization, x: PyTree, output: PyTree, t: Any) -> Estimate:
    """The estimate `(x0, eps)` that an output F at `x_t` stands for, in float32 or wider.

    Args:
      process: the process of `x_t`.
      parametrization: the meaning of the output.
      x: `x_t`, leaves `[batch, *event]`.
      output: F, of the shape of `x`.
      t: a scalar or `[batch]`.
    """
    (p, q), alpha, sigma = parametrization.target(process, t), process.alpha(t), process.sigma(t)
    inverse = 1 / (alpha * q - sigma * p)  # one division instead of four, which small networks would notice
    p, q, alpha, sigma = (inverse * side for side in (p, q, alpha, sigma))
    return Estimate(x0=trees.lincomb((q, -sigma), (x, output)), eps=trees.lincomb((-p, alpha), (x, output)))


def output_of(process: Process, parametrization: Parametrization, estimate: Estimate, t: Any) -> PyTree:
    """The output `F = p x0 + q eps` of an estimate. The output of the true data and noise is the training target."""
    return trees.lincomb(parametrization.target(process, t), estimate)


def check(process: Process, parametrization: Parametrization) -> None:
    """Raises an error unless the parametrization is defined at `t_max`, the noisy end of the process.

    Where no signal is left (`alpha(t_max) = 0`), `x_t` is the noise itself. A network that predicts noise or score then
    says nothing about the data. Lin et al. 2024 (arXiv 2305.08891), section 3.2. A process that JAX is tracing is not
    checked.

    Raises:
      TypeError: `process` is not a process, or `parametrization` is not a parametrization.
      ValueError: at `t_max` the determinant vanishes or the time input is not finite.
    """
    if not isinstance(parametrization, Parametrization):
        allowed = "parametrizations, such as jaxdiff.parametrizations.v()"
        raise TypeError(message("parametrization", parametrization, allowed))
    if trees.traced(process):
        return
    process = on_host(process)
    t = np.float64(process.t_max)
    kind = type(process).__name__
    with np.errstate(divide="ignore"):
        det, time = determinant(process, parametrization, t), parametrization.time_input(process, t)
    if abs(det) < 1e-6:
        allowed = f"'v', 'velocity', 'x0' and 'edm', as {kind} has no signal at t_max = {t:g}; or a smaller t_max"
        raise ValueError(message("parametrization", parametrization.name, allowed))
    if not np.isfinite(time):
        allowed = f"finite numbers at t_max = {t:g} of {kind}, such as those of raw_time_input"
        raise ValueError(message(f"time input of parametrization {parametrization.name!r}", time, allowed))


# ------------------------------------------------------------------------- time inputs and input scales


def default_time_input(process: Process, t: Any) -> Any:
    """The time input that is customary for this process: the index, `1000 t`, or `log(sigma)/4`."""
    return process.time_input(t)


def raw_time_input(process: Process, t: Any) -> Any:
    """The time itself, in the units of the process."""
    return t


def log_ratio_time_input(process: Process, t: Any) -> Any:
    """EDM's `c_noise = log(sigma/alpha)/4`, which is `-log_snr/8`. It is infinite where alpha or sigma is 0."""
    xp = namespace(t)
    return xp.log(process.sigma(t) / process.alpha(t)) / 4


def unscaled(process: Process, t: Any) -> Any:
    """The input scale 1: the network is given `x_t` itself."""
    return namespace(t).ones_like(t)


_TIME_INPUTS = {"default": default_time_input, "raw": raw_time_input, "log_ratio": log_ratio_time_input}


def _time_input(time_input: TimeInput) -> Scale:
    """The function of a time input that may be given by its name."""
    if not isinstance(time_input, str):
        return time_input
    one_of("time_input", time_input, _TIME_INPUTS)
    return _TIME_INPUTS[time_input]


# -------------------------------------------------------------------------------------- the targets


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
    """The input scale `c = 1/sqrt(alpha^2 sd^2 + sigma^2)`, which gives the input unit variance."""

    sigma_data: float

    def __call__(self, process: Process, t: Any) -> Any:
        return 1 / namespace(t).sqrt((process.alpha(t) * self.sigma_data) ** 2 + process.sigma(t) ** 2)


@dataclasses.dataclass(frozen=True)
class _EDMTarget:
    """The target `(c sigma/sd, -c alpha sd)`. It gives an output of unit variance that is orthogonal to the input."""

    sigma_data: float

    def __call__(self, process: Process, t: Any) -> tuple[Any, Any]:
        scale = _EDMScale(self.sigma_data)(process, t)
        return scale * process.sigma(t) / self.sigma_data, -scale * process.alpha(t) * self.sigma_data


def eps(time_input: TimeInput = "default") -> Parametrization:
    """The network predicts the noise. The process must have `alpha(t_max) > 0`.

    Args:
      time_input: the time input of the network: "default", "raw" or "log_ratio", the functions above; or a function.
    """
    return Parametrization("eps", _eps, unscaled, _time_input(time_input))


def x0(time_input: TimeInput = "default") -> Parametrization:
    """The network predicts the data.

    Args:
      time_input: the time input of the network: "default", "raw" or "log_ratio", the functions above; or a function.
    """
    return Parametrization("x0", _x0, unscaled, _time_input(time_input))


def v(time_input: TimeInput = "default") -> Parametrization:
    """The network predicts `v = alpha eps - sigma x0`, which is well conditioned at every noise level.

    Args:
      time_input: the time input of the network: "default", "raw" or "log_ratio", the functions above; or a function.
    """
    return Parametrization("v", _v, unscaled, _time_input(time_input))


def velocity(time_input: TimeInput = "default") -> Parametrization:
    """The network predicts the velocity `d x_t / dt = alpha' x0 + sigma' eps`. For `processes.flow()`, `eps - x0`.

    Args:
      time_input: the time input of the network: "default", "raw" or "log_ratio", the functions above; or a function.
    """
    return Parametrization("velocity", _velocity, unscaled, _time_input(time_input))


def score(time_input: TimeInput = "default") -> Parametrization:
    """The network predicts the score `grad log p_t(x) = -eps/sigma`. The process must have `alpha(t_max) > 0`.

    Args:
      time_input: the time input of the network: "default", "raw" or "log_ratio", the functions above; or a function.
    """
    return Parametrization("score", _score, unscaled, _time_input(time_input))


def edm(sigma_data: float = 0.5, time_input: TimeInput = "log_ratio") -> Parametrization:
    """EDM's preconditioning: at every noise level, input and target of the network have unit variance.

    With the standard deviation `sd` of the data, the input scale and the output are

        c_in = 1/sqrt(alpha^2 sd^2 + sigma^2)
        F = c_in (sigma x0/sd - alpha sd eps)

    For `alpha = 1` this is the form of the paper:

        x0 = c_skip x + c_out F
        c_skip = sd^2/(sigma^2 + sd^2)
        c_out = sigma sd/sqrt(sigma^2 + sd^2)

    Karras et al. 2022 (arXiv 2206.00364), table 1 and appendix B.6.

    Args:
      sigma_data: the standard deviation of the data.
      time_input: the time input of the network, as for `eps`. "log_ratio" is infinite where no signal is left, so that
        a process with `alpha(t_max) = 0` needs another one, such as "raw".

    Raises:
      ValueError: `sigma_data` is not a finite number above 0, or `time_input` is unknown.
    """
    positive("sigma_data", sigma_data)
    return Parametrization("edm", _EDMTarget(float(sigma_data)), _EDMScale(float(sigma_data)), _time_input(time_input))
