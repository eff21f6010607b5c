"""DDPM's chain: a process that is given at the indices of its steps."""

import dataclasses
from typing import Any, ClassVar, Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxdiff.arithmetic import namespace
from jaxdiff.checks import integer, one_of, require
from jaxdiff.processes.process import Process


class VPDiscrete(Process):
    """DDPM's chain. `vp_discrete` and `vp_from_betas` make it."""

    t_clean: ClassVar[float] = -1.0
    t_noise: float = dataclasses.field(default=np.inf, metadata={"static": True})  # type: ignore[misc]
    log_snrs: Float[Any, " steps"]

    def _sides(self, t: Any) -> tuple[Any, Any, Any]:
        """Multiples of alpha and of sigma, and their norm."""
        xp = namespace(t)
        table = self.log_snrs
        if xp is jnp and isinstance(table, np.ndarray):
            # A copy in JAX's default type. JAX 0.12 converts a captured array once and keeps the result, even when x64
            # is switched on or off afterwards.
            table = table.astype(jnp.result_type(float))
        table = xp.asarray(table)
        index = xp.clip(xp.floor(t), 0, len(table) - 2).astype(int)
        # Below index 0 the ratio sigma/alpha falls linearly, to 0 at t = -1. Above the last index but one the ratio
        # alpha/sigma falls linearly to 0 at `t_noise`, if that is finite; there the table is constant.
        progress = xp.where(t < 0, 0.0, t - index)
        l = table[index] + progress * (table[index + 1] - table[index])
        signal = xp.where(t >= self.t_noise - 1, self.t_noise - t, 1.0) * xp.exp(xp.minimum(l, 0) / 2)
        noise = xp.where(t < 0, 1 + t, 1.0) * xp.exp(-xp.maximum(l, 0) / 2)
        return signal, noise, xp.sqrt(signal**2 + noise**2)

    def alpha(self, t: Any) -> Any:
        signal, _, norm = self._sides(t)
        return signal / norm

    def sigma(self, t: Any) -> Any:
        _, noise, norm = self._sides(t)
        return noise / norm

    def time_input(self, t: Any) -> Any:
        return t


# The shortest chain of each schedule: the betas must stay below 1.
_SHORTEST = {"linear": 21, "scaled_linear": 13, "cosine": 2}


def vp_discrete(
    schedule: Literal["linear", "scaled_linear", "cosine"] = "linear",
    steps: int = 1000,
    *,
    zero_terminal_snr: bool = False,
) -> VPDiscrete:
    """DDPM's chain: `alpha(i) = sqrt(prod_{j <= i} (1 - beta_j))` at the indices `i = 0..steps-1`.

    Between indices the log-SNR is linear. At index -1, which is `t_clean`, there is no noise. The default time input of
    networks is the index.

    Args:
      schedule: the betas. "linear" runs from 1e-4 to 0.02 at 1000 steps (Ho et al. 2020, arXiv 2006.11239, section 4).
        "scaled_linear" has a linear square root and runs from 0.00085 to 0.012 at 1000 steps (Rombach et al. 2022,
        arXiv 2112.10752). "cosine" is equation 17 of Nichol & Dhariwal 2021 (arXiv 2102.09672), with betas capped at
        0.999.
      steps: the length of the chain. The betas of the first two schedules are scaled by `1000/steps`, so they need at
        least 21 and 13 steps.
      zero_terminal_snr: whether to leave no signal at the last index, by `enforce_zero_terminal_snr`.

    Raises:
      ValueError: `schedule` is unknown, or `steps` is too small or above 1,000,000.
    """
    one_of("schedule", schedule, _SHORTEST)
    integer(f"steps of schedule {schedule!r}", steps, least=_SHORTEST[schedule], most=1_000_000)
    rate = 1000 / steps
    if schedule == "linear":
        betas = np.linspace(1e-4 * rate, 0.02 * rate, steps)
    elif schedule == "scaled_linear":
        betas = np.linspace(np.sqrt(0.00085 * rate), np.sqrt(0.012 * rate), steps) ** 2
    else:
        level = np.cos((np.arange(steps + 1) / steps + 0.008) / 1.008 * np.pi / 2) ** 2
        betas = np.minimum(1 - level[1:] / level[:-1], 0.999)
    return vp_from_betas(enforce_zero_terminal_snr(betas) if zero_terminal_snr else betas)


def vp_from_betas(betas: tuple[float, ...] | Float[np.ndarray, " steps"]) -> VPDiscrete:
    """DDPM's chain for given betas: `alpha(i)^2 = prod_{j <= i} (1 - betas[j])`. See `vp_discrete`.

    If the last beta is 1, no signal is left at the last index (`alpha = 0`, zero terminal SNR). Between the last two
    indices `alpha/sigma` then falls linearly, as `sigma/alpha` does below index 0. Use the v, velocity, x0 or EDM
    parametrization there.

    Args:
      betas: the share of the variance that each step replaces by noise: at least 2 numbers, each in (0, 1). The last
        one may be 1.

    Raises:
      ValueError: `betas` has another shape, or a beta is not allowed.
    """
    betas = _checked(betas)
    zero = betas[-1] == 1
    log_alpha2 = np.cumsum(np.log1p(-(betas[:-1] if zero else betas)))
    log_snrs = log_alpha2 - np.log(-np.expm1(log_alpha2))
    last = float(len(betas) - 1)
    if zero:  # minus infinity; the process knows it by `t_noise`
        return VPDiscrete(log_snrs=np.append(log_snrs, log_snrs[-1]), t_min=0.0, t_max=last, t_noise=last)
    return VPDiscrete(log_snrs=log_snrs, t_min=0.0, t_max=last)


def enforce_zero_terminal_snr(betas: Float[np.ndarray, " steps"]) -> Float[np.ndarray, " steps"]:
    """Betas that leave no signal at the last step: `alpha` is shifted and scaled, so that it keeps its first value.

        alpha'(i) = alpha(0) (alpha(i) - alpha(steps - 1)) / (alpha(0) - alpha(steps - 1))

    Lin et al. 2024 (arXiv 2305.08891), algorithm 1. A network must be trained, or finetuned, with the new betas and a
    parametrization other than eps.

    Args:
      betas: as for `vp_from_betas`.

    Returns:
      The new betas, of which the last one is 1.

    Raises:
      ValueError: `betas` has another shape, or a beta is not allowed.
    """
    alpha = np.sqrt(np.cumprod(1 - _checked(betas)))
    alpha = (alpha - alpha[-1]) * alpha[0] / (alpha[0] - alpha[-1])
    return 1 - np.append(alpha[0], alpha[1:] / alpha[:-1]) ** 2


def _checked(betas: Any) -> Float[np.ndarray, " steps"]:
    betas = np.asarray(betas, np.float64)
    good = betas.ndim == 1 and len(betas) >= 2 and np.all(betas > 0) and np.all(betas[:-1] < 1) and betas[-1] <= 1
    require(good, "betas", betas, "arrays [steps >= 2] of numbers between 0 and 1, of which the last may be 1")
    return betas
