"""Weightings: how much each noise level counts in the denoising loss.

A weighting is a function `(process, t) -> w`. The loss is, for the network's own output F (see `parametrizations`):

    w(t) |(x0_hat - x0)/sigma|^2 = w(t) |(F_hat - F)/det|^2

In this form no ratio of zeros arises where alpha or sigma vanishes. Papers give the weight of another squared error.
Because `(eps_hat - eps) sigma = -(x0_hat - x0) alpha`, the same loss has

    w = weight sigma^2              for a weight of the squared error of x0
    w = weight alpha^2              for a weight of the squared error of eps
    w = weight alpha^2/sigma^2      for a weight of the squared error of the score

Every weighting is made by a function of its options, such as `min_snr(gamma)`. Any function `(process, t) -> w` is a
weighting.
"""

from collections.abc import Callable
from typing import Annotated, Any

import jax.numpy as jnp

from jaxdiff import parametrizations
from jaxdiff.checks import not_negative, positive
from jaxdiff.components import Choices
from jaxdiff.parametrizations import Parametrization, ParametrizationChoice
from jaxdiff.processes import Process

__all__ = ["Weighting", "WeightingChoice", "edm", "likelihood", "min_snr", "p2", "sigmoid", "uniform"]

Weighting = Callable[[Process, Any], Any]
# A weighting as a setting: a function of this file, with its options.
WeightingChoice = Annotated[Callable[..., Weighting], Choices("jaxdiff.objectives.weightings")]


def uniform(parametrization: Parametrization | ParametrizationChoice) -> Weighting:
    """The plain squared error of the output of a parametrization, which need not be the network's own.

    `uniform(eps())` is DDPM's simple loss, with weight SNR on x0. On variance-preserving processes, `uniform(v())` has
    weight SNR + 1 on x0. `uniform(velocity())` is flow matching.

    Args:
      parametrization: the parametrization whose output is compared; or a function without arguments that makes it.
    """
    made = parametrization if isinstance(parametrization, Parametrization) else parametrization()
    return lambda process, t: parametrizations.determinant(process, made, t) ** 2


def edm(sigma_data: float = 0.5) -> Weighting:
    """The uniform weighting of EDM's output: `(sigma^2 + sd^2)/(sigma sd)^2` on x0 for `alpha = 1`.

    Karras et al. 2022 (arXiv 2206.00364), table 1.

    Args:
      sigma_data: the standard deviation of the data.

    Raises:
      ValueError: `sigma_data` is not a finite number above 0.
    """
    return uniform(parametrizations.edm(sigma_data))


def min_snr(gamma: float = 5.0) -> Weighting:
    """Min-SNR weighting: `min(SNR, gamma)` on x0. Hang et al. 2023 (arXiv 2303.09556), equation 8.

    Args:
      gamma: the largest weight, above 0.

    Raises:
      ValueError: `gamma` is not a finite number above 0.
    """
    positive("gamma", gamma)
    return lambda process, t: jnp.minimum(process.alpha(t) ** 2, gamma * process.sigma(t) ** 2)


def p2(gamma: float = 1.0, k: float = 1.0) -> Weighting:
    """P2 weighting: `1/(k + SNR)^gamma` on eps. Choi et al. 2022 (arXiv 2204.00227), equation 8.

    Args:
      gamma: the power, at least 0. A larger power gives less weight to little noise; 0 is `uniform(eps())`.
      k: the signal-to-noise ratio at which the weight begins to fall, above 0.

    Raises:
      ValueError: `gamma` is negative, or `k` is not a finite number above 0.
    """
    not_negative("gamma", gamma)
    positive("k", k)

    def weight(process: Process, t: Any) -> Any:
        signal, noise = process.alpha(t) ** 2, process.sigma(t) ** 2
        return signal * (noise / (k * noise + signal)) ** gamma

    return weight


def sigmoid(bias: float = 0.0) -> Weighting:
    """Sigmoid weighting: `sigmoid(bias - log SNR)` on eps, with less weight where there is little noise.

    On x0 it is `e^bias sigmoid(log SNR - bias)`. Kingma & Gao 2023 (arXiv 2303.00848), section 5; Hoogeboom et al. 2024
    (SiD2, arXiv 2410.19324). The papers multiply it by `-d log SNR/dt`, which turns uniform times into uniform log-SNR.
    Here the time sampler does this.

    Args:
      bias: the log-SNR at which the weight is half of its largest value.
    """

    def weight(process: Process, t: Any) -> Any:
        signal, noise = process.alpha(t) ** 2, jnp.exp(bias) * process.sigma(t) ** 2
        return signal * noise / (noise + signal)

    return weight


def likelihood() -> Weighting:
    """Likelihood weighting: `g(t)^2` on the score. With uniform times the loss bounds the negative log-likelihood.

    Song et al. 2021 (arXiv 2101.09258), theorem 1. The weight grows as `1/sigma` where sigma goes to 0.
    """

    def weight(process: Process, t: Any) -> Any:
        # g^2 = 2 (sigma/alpha) (alpha sigma' - sigma alpha'): no division by alpha, which may be 0.
        det = parametrizations.determinant(process, parametrizations.velocity(), t)
        return 2 * det * process.alpha(t) / process.sigma(t)

    return weight
