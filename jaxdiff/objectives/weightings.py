"""Weightings: how much each noise level counts in the denoising loss.

A weighting is a function `(process, t) -> w` for the loss

    w(t) |(x0_hat - x0)/sigma|^2         which is also          w(t) |(F_hat - F)/det|^2

for the network's own output F (see `parametrizations`), so that no ratio of zeros arises where alpha or sigma vanish.
In terms of the squared errors that papers write,

    on x0: w = weight sigma^2        on eps: w = weight alpha^2        on the score: w = weight alpha^2/sigma^2

since `(eps_hat - eps) sigma = -(x0_hat - x0) alpha`. Any function of this signature will do.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from jaxdiff import parametrizations
from jaxdiff.parametrizations import Parametrization
from jaxdiff.processes import Process

Weighting = Callable[[Process, Any], Any]


def uniform(parametrization: Parametrization) -> Weighting:
    """The plain squared error in the terms of a parametrization, whatever the network itself predicts.

    `uniform(eps())` is DDPM's simple loss (weight SNR on x0), `uniform(v())` is SNR + 1 (on variance-preserving
    processes), `uniform(velocity())` flow matching.
    """
    return lambda process, t: parametrizations.determinant(process, parametrization, t) ** 2


def edm(sigma_data: float = 0.5) -> Weighting:
    """`(sigma^2 + sd^2)/(sigma sd)^2` on x0 (for `alpha = 1`): EDM's own output, weighted uniformly.

    Karras et al. 2022 (arXiv 2206.00364), table 1.
    """
    return uniform(parametrizations.edm(sigma_data))


def min_snr(gamma: float = 5.0) -> Weighting:
    """`min(SNR, gamma)` on x0. Hang et al. 2023 (arXiv 2303.09556), equation 8."""
    return lambda process, t: jnp.minimum(process.alpha(t) ** 2, gamma * process.sigma(t) ** 2)


def p2(gamma: float = 1.0, k: float = 1.0) -> Weighting:
    """`1/(k + SNR)^gamma` on eps. Choi et al. 2022 (P2, arXiv 2204.00227), equation 8."""

    def weight(process: Process, t: Any) -> Any:
        signal, noise = process.alpha(t) ** 2, process.sigma(t) ** 2
        return signal * (noise / (k * noise + signal)) ** gamma

    return weight


def sigmoid(bias: float = 0.0) -> Weighting:
    """`sigmoid(bias - log SNR)` on eps: less weight where little noise is.

    The same as `e^bias sigmoid(log SNR - bias)` on x0. Kingma & Gao 2023 (arXiv 2303.00848), section 5; Hoogeboom et
    al. 2024 (SiD2, arXiv 2410.19324). Multiplied there by `-d log SNR/dt`, which turns uniform times into uniform
    log-SNR: choose the time sampler for that.
    """

    def weight(process: Process, t: Any) -> Any:
        signal, noise = process.alpha(t) ** 2, jnp.exp(bias) * process.sigma(t) ** 2
        return signal * noise / (noise + signal)

    return weight


def likelihood(process: Process, t: Any) -> Any:
    """`g(t)^2` on the score, with uniform times: the loss bounds the negative log-likelihood.

    Song et al. 2021 (arXiv 2101.09258), theorem 1. It grows as `1/sigma` where sigma goes to 0.
    """
    # g^2 = 2 (sigma/alpha) (alpha sigma' - sigma alpha'): no division by alpha, which may be 0.
    det = parametrizations.determinant(process, parametrizations.velocity(), t)
    return 2 * det * process.alpha(t) / process.sigma(t)
