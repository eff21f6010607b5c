"""DDPM's chain: a process given at indices."""

from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxdiff.arithmetic import namespace
from jaxdiff.processes.process import Process


class VPDiscrete(Process):
    """See `vp_discrete`."""

    t_clean: ClassVar[float] = -1.0
    log_snrs: Float[Any, " steps"]

    def _log_snr(self, t: Any) -> Any:
        xp = namespace(t)
        table = self.log_snrs
        if xp is jnp and isinstance(table, np.ndarray):
            # A copy in JAX's own type: JAX 0.12 keeps what it made of a captured array, also when x64 is switched.
            table = table.astype(jnp.result_type(float))
        table = xp.asarray(table)
        index = xp.clip(xp.floor(t), 0, len(table) - 2).astype(int)
        within = table[index] + (t - index) * (table[index + 1] - table[index])
        # Below index 0 the ratio sigma/alpha falls linearly to 0 at t = -1, where log-SNR is infinite.
        with np.errstate(divide="ignore"):
            below = table[0] - 2 * xp.log(xp.clip(t + 1, 0, 1))
        return xp.where(t < 0, below, within)

    def alpha(self, t: Any) -> Any:
        xp = namespace(t)
        return xp.exp(-xp.logaddexp(0.0, -self._log_snr(t)) / 2)

    def sigma(self, t: Any) -> Any:
        xp = namespace(t)
        return xp.exp(-xp.logaddexp(0.0, self._log_snr(t)) / 2)

    def time_input(self, t: Any) -> Any:
        return t


def vp_discrete(schedule: str = "linear", steps: int = 1000) -> VPDiscrete:
    """DDPM's chain: `alpha(i) = sqrt(prod_{j <= i} (1 - beta_j))` at the indices `i = 0..steps-1`.

    Between indices log-SNR is linear. Index -1, where nothing has been corrupted yet, is `t_clean`. Networks are told
    the index.

    Args:
      schedule: "linear" (beta from 1e-4 to 0.02 at 1000 steps; Ho et al. 2020, arXiv 2006.11239, section 4),
        "scaled_linear" (its square root linear from 0.00085 to 0.012; Rombach et al. 2022, arXiv 2112.10752), or
        "cosine" (Nichol & Dhariwal 2021, arXiv 2102.09672, equation 17, betas capped at 0.999).
      steps: the length of the chain; the rates of the first two are scaled by `1000/steps`.

    Raises:
      ValueError: an unknown schedule, fewer than two steps, or rates outside of (0, 1).
    """
    if steps < 2:
        raise ValueError(f"steps = {steps}; allowed are integers of at least 2")
    rate = 1000 / steps
    if schedule == "linear":
        betas = np.linspace(1e-4 * rate, 0.02 * rate, steps)
    elif schedule == "scaled_linear":
        betas = np.linspace(np.sqrt(0.00085 * rate), np.sqrt(0.012 * rate), steps) ** 2
    elif schedule == "cosine":
        level = np.cos((np.arange(steps + 1) / steps + 0.008) / 1.008 * np.pi / 2) ** 2
        betas = np.minimum(1 - level[1:] / level[:-1], 0.999)
    else:
        raise ValueError(f"schedule = {schedule!r}; allowed are 'linear', 'scaled_linear' and 'cosine'")
    return vp_from_betas(betas)


def vp_from_betas(betas: Any) -> VPDiscrete:
    """DDPM's chain for given rates: `alpha(i)^2 = prod_{j <= i} (1 - betas[j])`. See `vp_discrete`.

    Args:
      betas: `[steps]`, each in (0, 1).
    """
    betas = np.asarray(betas, np.float64)
    if betas.ndim != 1 or len(betas) < 2 or not np.all((betas > 0) & (betas < 1)):
        raise ValueError(f"betas = {betas}; allowed is an array [steps >= 2] of numbers in (0, 1)")
    log_alpha2 = np.cumsum(np.log1p(-betas))
    return VPDiscrete(log_snrs=log_alpha2 - np.log(-np.expm1(log_alpha2)), t_min=0.0, t_max=float(len(betas) - 1))
